use super::*;
use proptest::prelude::*;
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};
use test_case::test_case;
use tidegate_ebpf_common::LAYOUT;

/// A daemon of which this process may be anything.
#[derive(Clone, Copy)]
struct Front {
    takes_for_subject: bool,
    trusts: bool,
}

const TRUSTED: Front = Front { takes_for_subject: false, trusts: true };

impl Desk for Front {
    fn is_subject(&self, peer: &Peer) -> bool {
        assert_eq!(peer.pid, std::process::id());
        self.takes_for_subject
    }

    fn is_trusted(&self, _: &Peer) -> bool {
        self.trusts
    }

    fn status(&self) -> Status {
        assert!(self.trusts && !self.takes_for_subject);
        Status { healthy: true, pid: 42, ..Status::default() }
    }

    fn admit(&self, _: &Peer, workload: &str) -> Result<Admission, String> {
        assert!(!self.takes_for_subject);
        let admission = || Admission { policy: "p".into(), anchors: "/a".into(), bundle: "/b".into() };
        (workload == "ci").then(admission).ok_or_else(|| format!("not as {workload}"))
    }

    fn reload(&self) -> Result<String, String> {
        assert!(self.trusts && !self.takes_for_subject);
        Err("p.toml:1: wrong".into())
    }

    fn may_follow(&self, layout: u32) -> Result<(), String> {
        assert!(self.trusts && !self.takes_for_subject);
        (layout == LAYOUT).then_some(()).ok_or_else(|| "another layout".to_owned())
    }

    fn keep_follower(&self, mut follower: UnixStream) {
        follower.write_all(b"and more").unwrap();
    }
}

fn path(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join(FILE_NAME)
}

/// Talks with a daemon that serves, from a thread that may block.
async fn with_daemon<T: Send + 'static>(front: Front, talk: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    let control = Control::bind(&path, Callers::Group(None)).unwrap();
    let serving = tokio::spawn(control.serve(Arc::new(front)));
    let told = tokio::task::spawn_blocking(move || talk(&path)).await.unwrap();
    serving.abort();
    told
}

#[tokio::test]
async fn the_status_is_told_to_those_who_are_trusted() {
    let status = with_daemon(TRUSTED, status).await.unwrap();
    assert_eq!((status.healthy, status.pid), (true, 42));
}

#[test_case(Front { takes_for_subject: true, ..TRUSTED }, "a subject gets no answer"; "a subject")]
#[test_case(Front { trusts: false, ..TRUSTED }, "only root and the members of the group `tidegate`"; "another user")]
#[tokio::test]
async fn others_are_told_nothing_and_change_nothing(front: Front, expected: &'static str) {
    let errors = with_daemon(front, |path| [status(path).unwrap_err(), reload(path).unwrap_err()]).await;
    for error in errors {
        assert!(matches!(&error, Error::Refused(why) if why.contains(expected)), "{error}");
    }
}

#[tokio::test]
async fn whoever_is_no_subject_may_ask_to_run_a_command() {
    let stranger = Front { trusts: false, ..TRUSTED };
    let [admitted, refused] = with_daemon(stranger, |path| ["ci", "prod"].map(|name| run(path, name))).await;
    assert_eq!(admitted.unwrap().policy, "p");
    assert!(matches!(refused.unwrap_err(), Error::Refused(why) if why == "not as prod"));
    let subject = Front { takes_for_subject: true, ..TRUSTED };
    let refused = with_daemon(subject, |path| run(path, "ci")).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(why) if why.contains("a subject")), "{refused}");
}

#[tokio::test]
async fn why_a_reload_changes_nothing_is_told() {
    let refused = with_daemon(TRUSTED, reload).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(why) if why.contains("p.toml:1")), "{refused}");
}

#[tokio::test]
async fn whoever_is_to_follow_keeps_the_connection_for_what_is_to_come() {
    let [followed, other] =
        with_daemon(TRUSTED, |path| [LAYOUT, LAYOUT + 1].map(|layout| follow(path, layout))).await;
    let mut more = String::new();
    followed.unwrap().read_to_string(&mut more).unwrap();
    assert_eq!(more, "and more");
    assert!(matches!(other.unwrap_err(), Error::Refused(why) if why == "another layout"));
    for front in [Front { takes_for_subject: true, ..TRUSTED }, Front { trusts: false, ..TRUSTED }] {
        let refused = with_daemon(front, |path| follow(path, LAYOUT)).await.unwrap_err();
        assert!(matches!(&refused, Error::Refused(_)), "{refused}");
    }
    let path = Path::new("/nonexistent/control.sock");
    assert!(matches!(follow(path, LAYOUT), Err(Error::NoDaemon(_))));
}

#[test]
fn nobody_but_root_keeps_the_others_from_being_heard() {
    let present = Present::default();
    let mut visits: Vec<_> = (0..MAX_OF_USER).map(|_| present.come(1000)).collect();
    assert!(visits.iter().all(Option::is_some) && present.come(1000).is_none());
    assert!(present.come(1001).is_some());
    let roots: Vec<_> = (0..=MAX_OF_USER).map(|_| present.come(0)).collect();
    assert!(roots.iter().all(Option::is_some));
    visits.pop();
    assert!(present.come(1000).is_some());
    let many: Vec<_> = (2000..).map_while(|uid| present.come(uid)).collect();
    assert_eq!(many.len() + visits.len(), MAX_OF_USERS, "as many users as there may be");
    assert!(present.come(0).is_some());
    drop((visits, roots, many));
    assert!(present.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_socket_is_roots_alone_and_takes_the_place_of_an_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    for _ in 0..2 {
        let _control = Control::bind(&path, Callers::Group(None)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }
    let _control = Control::bind(&path, Callers::Everybody).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    drop(_control);
    assert!(matches!(status(&path), Err(Error::NoDaemon(_))), "nobody listens any more");
    assert!(matches!(status(&directory.path().join("none")), Err(Error::NoDaemon(_))));
}

#[test_case("{\"status\":{}}\n", true; "a request")]
#[test_case("{\"status\":{\"x\":1}}\n", false; "a key too many")]
#[test_case("{\"stop\":{}}\n", false; "another request")]
#[test_case("{\"status\":{}}{\"reload\":{}}\n", false; "two")]
#[test_case("{\"run\":{}}\n", false; "a workload too few")]
#[test_case("{\"run\":{\"workload\":\"ci\",\"uid\":0}}\n", false; "a claim of who asks")]
#[test_case("\n", false; "nothing")]
#[test_case("\0\u{ff}\n", false; "no JSON")]
#[tokio::test]
async fn a_request_is_understood_or_refused(line: &'static str, is_understood: bool) {
    let told = with_daemon(TRUSTED, move |path| {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        told
    });
    let answer: Answer = serde_json::from_str(&told.await).unwrap();
    assert_eq!(matches!(answer, Answer::Status(_)), is_understood, "{answer:?}");
}

#[tokio::test]
async fn a_request_without_end_is_cut_off() {
    let told = with_daemon(TRUSTED, |path| {
        let mut stream = UnixStream::connect(path).unwrap();
        // More than is read; the other side may have closed before all of it is written.
        let _cut = stream.write_all(&vec![b' '; 8192]);
        let mut told = String::new();
        let _reset = stream.read_to_string(&mut told);
        told
    });
    assert!(told.await.contains("does not understand"));
}

proptest! {
    /// Of whatever bytes, only a request gets anything but a refusal.
    #[test]
    fn a_forged_request_is_refused(line in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..256),
        "\\{\"(status|run|reload|Status)\":(\\{\\}|null|\\{\"workload\":(\"(ci|\\.\\.|ci\u{0}|)\"|1|null|\\[\\])\\})\\}[\n }]{0,2}".prop_map(String::into_bytes),
    ]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stranger = Front { trusts: false, ..TRUSTED };
        let answered = runtime.block_on(async {
            let (one, _other) = net::UnixStream::pair().unwrap();
            answer(Peer::of(&one), &line, &stranger)
        });
        let asked = serde_json::from_slice(&line).ok();
        let may = matches!(&asked, Some(Request::Run { workload }) if workload == "ci");
        prop_assert_eq!(matches!(answered, Answer::Run(_)), may);
        let is_refused = matches!(answered, Answer::Error { .. });
        prop_assert!(may || is_refused, "{:?}", answered);
    }
}
