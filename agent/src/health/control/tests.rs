use super::*;
use test_case::test_case;

struct Front {
    takes_for_subject: bool,
}

impl Desk for Front {
    fn is_subject(&self, peer: &Peer) -> bool {
        assert_eq!(peer.pid, std::process::id());
        self.takes_for_subject
    }

    fn status(&self) -> Status {
        Status { healthy: true, pid: 42, ..Status::default() }
    }
}

fn path(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join(FILE_NAME)
}

/// Talks with a daemon that serves, from a thread that may block.
async fn with_daemon<T: Send + 'static>(
    takes_for_subject: bool,
    talk: impl FnOnce(&Path) -> T + Send + 'static,
) -> T {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    let control = Control::bind(&path).unwrap();
    let serving = tokio::spawn(control.serve(Arc::new(Front { takes_for_subject })));
    let told = tokio::task::spawn_blocking(move || talk(&path)).await.unwrap();
    serving.abort();
    told
}

#[tokio::test]
async fn the_status_is_told_to_whoever_is_no_subject() {
    let status = with_daemon(false, status).await.unwrap();
    assert_eq!((status.healthy, status.pid), (true, 42));
    let error = with_daemon(true, super::status).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(why) if why.contains("subject")), "{error}");
}

#[tokio::test]
async fn the_socket_is_roots_alone_and_takes_the_place_of_an_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    for _ in 0..2 {
        let _control = Control::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }
    assert!(matches!(status(&path), Err(Error::NoDaemon(_))), "nobody listens any more");
    assert!(matches!(status(&directory.path().join("none")), Err(Error::NoDaemon(_))));
}

#[test_case("{\"status\":{}}\n", true; "a request")]
#[test_case("{\"status\":{\"x\":1}}\n", false; "a key too many")]
#[test_case("{\"stop\":{}}\n", false; "another request")]
#[test_case("\n", false; "nothing")]
#[test_case("\0\u{ff}\n", false; "no JSON")]
#[tokio::test]
async fn a_request_is_understood_or_refused(line: &'static str, is_understood: bool) {
    let told = with_daemon(false, move |path| {
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
    let told = with_daemon(false, |path| {
        let mut stream = UnixStream::connect(path).unwrap();
        // More than is read; the other side may have closed before all of it is written.
        let _cut = stream.write_all(&vec![b' '; 8192]);
        let mut told = String::new();
        let _reset = stream.read_to_string(&mut told);
        told
    });
    assert!(told.await.contains("does not understand"));
}
