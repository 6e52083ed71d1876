use super::*;
use crate::{identify::workloads::List, toml_file::Source};
use serde_json::{Value, json};
use std::fs;

/// A directory with the file of `tidegate cluster`, and what a daemon keeps.
struct Place {
    directory: tempfile::TempDir,
    health: Arc<Health>,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), health: Arc::new(Health::new(&[Part::ApiServer])) }
    }

    fn kept(&self) -> PathBuf {
        self.directory.path().join("kept.json")
    }

    fn write(&self, change: impl FnOnce(&mut Value)) {
        let mut state = serde_json::to_value(State::default()).unwrap();
        change(&mut state);
        whole_file::put(&self.directory.path().join(FILE_NAME), state.to_string().as_bytes(), 0o644).unwrap();
    }

    fn cluster(&self) -> Cluster {
        let mut config = Config::default();
        config.kubernetes.watch = true;
        config.kubernetes.directory = self.directory.path().to_owned();
        let file = Source { path: "/p/file.toml".into(), text: String::new() };
        Cluster::at(&config, &[file], None, &self.kept()).unwrap()
    }

    fn concerned(&self, offers: UnboundedSender<Offer>) -> Concerned {
        let root = PathBuf::from("/sys/fs/cgroup");
        let cgroups = Arc::new(crate::identify::cgroups::Cgroups::new(root.clone(), root));
        Concerned {
            offers,
            workloads: Arc::new(Workloads::matched(Arc::new(List::new(Vec::new())), cgroups, None)),
            registry: Arc::new(Registry::new(Rules::default())),
            health: Arc::clone(&self.health),
            servant: None,
        }
    }

    fn problem(&self) -> Option<String> {
        self.health.problems().into_iter().find(|problem| problem.part == Part::ApiServer).map(|one| one.why)
    }
}

fn object(name: &str, spec: Value) -> Value {
    json!({ "name": name, "uid": name, "generation": 1, "spec": spec, "problem": null })
}

fn good(state: &mut Value) {
    state["policies"] = json!([object("reads", json!({ "allow": ["droplet:read"] }))]);
    state["bindings"] = json!([object("ci", json!({ "policy": "reads", "namespaces": ["ci"] }))]);
    state["pods"] = json!([{ "namespace": "n", "name": "p", "uids": ["u"], "labels": { "a": "b" }, "service_account": "runner" }]);
}

/// Takes what is in the file, as long as `takes` the policies.
async fn take(cluster: &mut Cluster, place: &Place, takes: bool) -> (Option<String>, Vec<String>) {
    let (offers, mut offered) = tokio::sync::mpsc::unbounded_channel::<Offer>();
    let answering = tokio::spawn(async move {
        let mut names = Vec::new();
        while let Some(Offer { objects, taken }) = offered.recv().await {
            names.extend(objects.iter().map(|source| source.path.display().to_string()));
            let _ = taken.send(if takes { Ok(String::new()) } else { Err("they do not go".to_owned()) });
        }
        names
    });
    let concerned = place.concerned(offers);
    let (state, touched) = State::read(&place.directory.path().join(FILE_NAME)).unwrap();
    let is_new = cluster.seen.as_ref() != Some(&state);
    cluster.note(&state, touched);
    let problem = cluster.take(state, &concerned).await;
    cluster.report(problem.clone(), &place.health);
    let workloads = concerned.workloads.matched_now().iter().map(|list| list.all().len()).sum::<usize>();
    assert_eq!(workloads, if problem.is_none() && is_new { cluster.bound().len() } else { 0 });
    drop(concerned);
    (problem, answering.await.unwrap())
}

#[tokio::test]
async fn what_was_told_counts_and_is_kept_for_the_next_start() {
    let place = Place::new();
    let mut cluster = place.cluster();
    assert!(!cluster.governance().1.is_known);
    cluster.report(None, &place.health);
    assert!(place.problem().unwrap().contains("pods are held"));
    place.write(good);
    assert_eq!(take(&mut cluster, &place, true).await, (None, vec!["reads.yaml".to_owned()]));
    assert_eq!(place.problem(), None);
    // Without the file, as with another one for the next pod's container.
    fs::remove_file(place.directory.path().join(FILE_NAME)).unwrap();
    let mut later = place.cluster();
    let mode = fs::metadata(place.kept()).map(|facts| std::os::unix::fs::MetadataExt::mode(&facts)).unwrap();
    assert_eq!(mode & 0o7777, 0o600);
    let (_, told) = later.governance();
    assert!(told.is_known && told.pods[&("n".to_owned(), "p".to_owned())].service_account == "runner");
    assert_eq!(later.bound().len(), 1);
    assert_eq!(later.sources(), cluster.sources());
    // One who has never seen the object in order leaves in force what this node knows.
    place.write(|state| {
        good(state);
        state["policies"][0]["spec"] = Value::Null;
        state["policies"][0]["problem"] = "spec.alow: unknown key".into();
    });
    assert_eq!(take(&mut later, &place, true).await, (None, Vec::new()));
    assert_eq!(later.sources(), cluster.sources());
    let shown = later.shown.lock().unwrap().policies.clone();
    assert!(shown[0].in_force && shown[0].problem.is_some(), "{shown:?}");
}

/// Or the taint, which stays until the agent is ready, would keep it from becoming so.
#[tokio::test]
async fn a_node_that_keeps_its_taint_is_shown_and_makes_nobody_unwell() {
    let place = Place::new();
    let mut cluster = place.cluster();
    let shown = |cluster: &Cluster| cluster.shown.lock().unwrap().taint.clone();
    for told in [None, Some("forbidden".to_owned()), None] {
        place.write(|state| {
            good(state);
            if let Some(why) = &told {
                state["taint"] = why.as_str().into();
            }
        });
        assert_eq!(take(&mut cluster, &place, true).await.0, None);
        assert_eq!((shown(&cluster), place.problem()), (told, None));
        assert_eq!(State::read(&place.kept()).unwrap().0.taint, None, "the next start finds out by itself");
    }
}

#[tokio::test]
async fn what_cannot_be_put_in_force_changes_nothing() {
    let place = Place::new();
    let mut cluster = place.cluster();
    place.write(good);
    assert_eq!(take(&mut cluster, &place, false).await.0.as_deref(), Some("they do not go"));
    assert!(!cluster.governance().1.is_known && !place.kept().exists());
    assert_eq!(take(&mut cluster, &place, true).await.0, None, "it is tried again");
    assert!(cluster.governance().1.is_known);
}

#[tokio::test]
async fn a_name_that_a_file_has_is_refused_and_so_is_what_is_kept_under_it() {
    let place = Place::new();
    place.write(|state| {
        good(state);
        state["policies"][0]["name"] = "file".into();
    });
    let mut cluster = place.cluster();
    assert!(cluster.sources().is_empty());
    assert_eq!(take(&mut cluster, &place, true).await, (None, Vec::new()));
    let shown = cluster.shown.lock().unwrap().policies.clone();
    assert!(!shown[0].in_force && shown[0].problem.as_ref().unwrap().contains("in a file"), "{shown:?}");
}

#[tokio::test]
async fn an_api_server_that_is_silent_for_long_is_told_of_and_what_was_known_counts() {
    let place = Place::new();
    let mut cluster = place.cluster();
    place.write(|state| {
        good(state);
        state["unreached"] = "connection refused".into();
    });
    take(&mut cluster, &place, true).await;
    assert_eq!(place.problem(), None, "for a moment that is nothing");
    assert_eq!(cluster.shown.lock().unwrap().unreached.as_deref(), Some("connection refused"));
    let file = fs::File::options().write(true).open(place.directory.path().join(FILE_NAME)).unwrap();
    file.set_modified(SystemTime::now() - PATIENCE * 2).unwrap();
    take(&mut cluster, &place, true).await;
    assert_eq!(
        place.problem().as_deref(),
        Some("what was known last counts: `tidegate cluster` has told nothing any more")
    );
    assert_eq!(cluster.bound().len(), 1);
    place.write(good);
    take(&mut cluster, &place, true).await;
    assert_eq!(place.problem(), None);
}

#[tokio::test]
async fn that_nobody_tells_anything_is_told_though_something_was_kept() {
    let place = Place::new();
    place.write(good);
    let mut cluster = place.cluster();
    assert_eq!(take(&mut cluster, &place, true).await.0, None);
    fs::remove_file(place.directory.path().join(FILE_NAME)).unwrap();
    let mut next = place.cluster();
    assert_eq!(next.sources().len(), 1, "what was kept");
    next.miss();
    next.report(None, &place.health);
    assert_eq!(place.problem(), None, "it may only have begun");
    let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
    next.unreached = next.unreached.map(|(_, why)| (long_ago, why));
    next.miss();
    next.report(None, &place.health);
    assert!(place.problem().unwrap().contains("has told nothing yet"));
}
