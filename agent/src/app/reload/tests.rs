use super::*;
use crate::toml_file::Source;
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};
use tokio::{task::JoinHandle, time::Instant};

const READ: &str = "allow = [\"droplet:read\"]\n";
const WRITE: &str = "allow = [\"droplet:read\", \"droplet:create\"]\n";

/// A policy file, and the store that follows it.
struct Place {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    bell: Bell,
    offers: UnboundedSender<Offer>,
    task: JoinHandle<()>,
}

impl Place {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.toml");
        put(&path, READ);
        let sources = [Source::open(&path).unwrap()];
        let set = PolicySet::load(&sources, Catalogue::embedded()).unwrap();
        let (origin, offers) = Origin::of(&sources);
        let (store, bell) = (Arc::new(Store::new(set)), Bell::default());
        let files = open(&[path], &[]).unwrap();
        let own = (Arc::clone(&store), bell.clone());
        let reloader = Reloader { store: own.0, files, bell: own.1, running: None, proxy: None, origin };
        let task = tokio::spawn(reloader.keep_loading());
        // Its first look is over, and only news bring another.
        sleep(QUIET * 3).await;
        Self { directory, store, bell, offers, task }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("p.toml")
    }

    fn grants(&self) -> usize {
        self.store.current().policy("p").unwrap().allow.len()
    }

    async fn expect(&self, grants: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.grants() != grants {
            assert!(Instant::now() < deadline, "{} grants", self.grants());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Long after it would have been loaded, it is not.
    async fn expect_unchanged(&self, grants: usize) {
        sleep(QUIET * 5).await;
        assert_eq!(self.grants(), grants);
        assert!(!self.task.is_finished());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_anew_is_loaded() {
    let place = Place::start().await;
    put(&place.path(), WRITE);
    place.expect(2).await;
    put(&place.path(), READ);
    place.expect(1).await;
}

#[tokio::test]
async fn a_file_that_takes_the_place_of_the_first_is_loaded() {
    let place = Place::start().await;
    for (text, grants) in [(WRITE, 2), (READ, 1)] {
        let new = place.directory.path().join("new");
        put(&new, text);
        fs::rename(&new, place.path()).unwrap();
        place.expect(grants).await;
    }
}

/// As Kubernetes updates a ConfigMap: only a link changes, to which the file is a link.
#[tokio::test]
async fn a_link_that_leads_to_another_file_is_followed() {
    let place = Place::start().await;
    let directory = place.directory.path();
    for (version, text) in [("..1", READ), ("..2", WRITE)] {
        fs::create_dir(directory.join(version)).unwrap();
        put(&directory.join(version).join("p.toml"), text);
    }
    symlink("..1", directory.join("..data")).unwrap();
    symlink("..data/p.toml", directory.join("new")).unwrap();
    fs::rename(directory.join("new"), place.path()).unwrap();
    place.expect_unchanged(1).await;
    symlink("..2", directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    place.expect(2).await;
}

#[tokio::test]
async fn a_broken_or_missing_file_leaves_the_last_good_set() {
    let place = Place::start().await;
    let good = place.store.current().digest().to_owned();
    put(&place.path(), "allow = [\"droplet:read\", \"no_such:scope\"]\n");
    place.expect_unchanged(1).await;
    place.bell.ring();
    place.expect_unchanged(1).await;
    fs::remove_file(place.path()).unwrap();
    place.expect_unchanged(1).await;
    assert_eq!(place.store.current().digest(), good);
    put(&place.path(), WRITE);
    place.expect(2).await;
}

#[tokio::test]
async fn what_was_refused_is_known_until_something_is_loaded() {
    let place = Place::start().await;
    assert_eq!(place.bell.refused(), None);
    put(&place.path(), "allow = [\"no_such:scope\"]\n");
    place.expect_unchanged(1).await;
    let refused = place.bell.refused().unwrap();
    assert!(refused.contains("stay as they are") && refused.contains("`no_such:scope`"), "{refused}");
    put(&place.path(), READ);
    place.expect_unchanged(1).await;
    assert_eq!(place.bell.refused(), None);
}

#[tokio::test]
async fn a_file_is_loaded_only_once_it_stays_as_it_is() {
    let place = Place::start().await;
    // Each state is valid, and wider than the next: the denials come last.
    let mut text = WRITE.to_owned();
    let end = Instant::now() + QUIET * 4;
    while Instant::now() < end {
        text.push_str("# more\n");
        put(&place.path(), &text);
        assert_eq!(place.grants(), 1);
        sleep(QUIET / 4).await;
    }
    assert_eq!(place.grants(), 1);
    put(&place.path(), READ);
    place.expect_unchanged(1).await;
}

#[tokio::test]
async fn a_hangup_loads_at_once() {
    let place = Place::start().await;
    put(&place.path(), WRITE);
    place.bell.ring();
    let asked = Instant::now();
    place.expect(2).await;
    assert!(asked.elapsed() < QUIET, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn what_must_not_be_believed_is_not_loaded() {
    let place = Place::start().await;
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o777)).unwrap();
    put(&place.path(), WRITE);
    place.expect_unchanged(1).await;
    place.bell.ring();
    place.expect_unchanged(1).await;
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o755)).unwrap();
    place.bell.ring();
    place.expect(2).await;
}

#[tokio::test]
async fn another_directory_in_the_place_of_the_first_is_not_loaded() {
    let place = Place::start().await;
    let (directory, old) = (place.directory.path().to_owned(), place.directory.path().with_extension("old"));
    fs::rename(&directory, &old).unwrap();
    fs::create_dir(&directory).unwrap();
    put(&place.path(), WRITE);
    place.bell.ring();
    place.expect_unchanged(1).await;
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&old, &directory).unwrap();
    put(&place.path(), WRITE);
    place.expect(2).await;
}

#[tokio::test]
async fn a_built_in_policy_stays() {
    let set = PolicySet::built_in(Catalogue::embedded()).unwrap();
    let (store, bell) = (Arc::new(Store::new(set)), Bell::default());
    let before = store.current().digest().to_owned();
    let reloader = Reloader {
        store: Arc::clone(&store),
        files: Arc::new([]),
        bell: bell.clone(),
        running: None,
        proxy: None,
        origin: Origin::of(&[]).0,
    };
    let task = tokio::spawn(reloader.keep_loading());
    bell.ring();
    sleep(QUIET * 3).await;
    assert!(!task.is_finished());
    assert_eq!(store.current().digest(), before);
    task.abort();
}

impl Place {
    async fn offer(&self, objects: &[(&str, &str)]) -> Outcome {
        let source = |(name, spec): &(&str, &str)| {
            let text = format!("{{\"spec\": {spec}}}").into_bytes();
            Source::from_bytes(Path::new(&format!("{name}.{OBJECT}")), text).unwrap()
        };
        let (taken, answer) = oneshot::channel();
        let objects = objects.iter().map(source).collect();
        self.offers.send(Offer { objects, taken }).unwrap();
        answer.await.unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.store.current().names().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn objects_come_and_go_beside_files_whatever_is_wrong_with_those() {
    let place = Place::start().await;
    let digest = place.store.current().digest().to_owned();
    place.offer(&[("a", r#"{"allow": ["droplet:read"]}"#), ("b", r#"{"allow": []}"#)]).await.unwrap();
    assert_eq!(place.names(), ["a", "b", "p"]);
    assert_ne!(place.store.current().digest(), digest);
    put(&place.path(), "allow = [\"nothing\"]\n");
    place.offer(&[("a", r#"{"allow": ["droplet:read", "droplet:create"]}"#)]).await.unwrap();
    assert_eq!(place.names(), ["a", "p"]);
    assert_eq!(place.store.current().policy("a").unwrap().allow.len(), 2);
    assert_eq!(place.grants(), 1);
    put(&place.path(), WRITE);
    place.bell.ask().await.unwrap().unwrap();
    assert_eq!((place.names(), place.grants()), (vec!["a".to_owned(), "p".to_owned()], 2));
    for (name, spec) in [("c", r#"{"allow": ["nothing:at_all"]}"#), ("p", r#"{"allow": []}"#)] {
        assert!(place.offer(&[(name, spec)]).await.is_err(), "{name}");
        assert_eq!(place.names(), ["a", "p"]);
    }
    place.offer(&[]).await.unwrap();
    assert_eq!(place.names(), ["p"]);
}
