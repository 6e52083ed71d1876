use super::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::{
    fs::File,
    io::{Read, Seek, Write},
    time::Duration,
};
use test_case::test_case;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Answers each question with itself, and what came with it.
fn echo(mut message: Message) {
    let text: String = message.read().unwrap();
    let descriptors: Vec<_> = message.descriptors.iter().map(AsFd::as_fd).collect();
    if let Some(reply) = message.reply.take() {
        reply.send(&text, &descriptors).unwrap();
    }
}

#[test_case(1; "short")]
#[test_case(16 << 10; "as long as the socket takes")]
#[test_case(3 << 20; "in memory")]
fn an_answer_comes_with_its_descriptors(length: usize) {
    let (one, other) = pair();
    let _echo = Link::start(other, echo).unwrap();
    let link = Link::start(one, |_| {}).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"content").unwrap();
    let text = "x".repeat(length);
    let answer = link.ask_now(&text, &[file.as_fd()]).unwrap();
    assert_eq!(answer.read::<String>().unwrap(), text);
    let mut got = File::from(answer.descriptors.into_iter().next().unwrap());
    let mut content = String::new();
    got.rewind().unwrap();
    got.read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
}

#[tokio::test]
async fn each_gets_its_own_answer_whatever_comes_between() {
    let (one, other) = pair();
    let held = Mutex::new(Vec::new());
    // The first question is answered only after the second.
    let _other = Link::start(other, move |mut message| {
        let text: String = message.read().unwrap();
        let mut held = held.lock().unwrap();
        held.push((message.reply.take().unwrap(), text));
        if held.len() == 2 {
            while let Some((reply, text)) = held.pop() {
                reply.send(&text, &[]).unwrap();
            }
        }
    })
    .unwrap();
    let link = Link::start(one, |_| {}).unwrap();
    let (first, second) = ("first", "second");
    let (first, second) = tokio::join!(link.ask(&first, &[]), link.ask(&second, &[]));
    assert_eq!(first.unwrap().read::<String>().unwrap(), "first");
    assert_eq!(second.unwrap().read::<String>().unwrap(), "second");
}

#[tokio::test]
async fn nobody_waits_for_one_that_is_gone() {
    let (one, other) = pair();
    let link = Arc::new(Link::start(one, |_| {}).unwrap());
    let asking = Arc::clone(&link);
    let asked = thread::spawn(move || asking.ask_now(&"anybody?", &[]));
    // Long enough for the question to be there.
    thread::sleep(Duration::from_millis(50));
    drop(other);
    assert_eq!(asked.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    link.closed().await;
    assert_eq!(link.ask(&"anybody?", &[]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(link.tell(&"hello", &[]).is_err());
}

#[tokio::test]
async fn the_other_end_learns_of_the_end() {
    let (one, other) = pair();
    let (link, waiting) = (Link::start(one, |_| {}).unwrap(), Link::start(other, |_| {}).unwrap());
    drop(link);
    waiting.closed().await;
}

#[test_case(&[]; "nothing but a head that is cut off")]
#[test_case(&[9, 0, 0, 0, 0, 0, 0, 0, 0]; "no kind")]
#[test_case(&[129, 0, 0, 0, 0, 0, 0, 0, 0]; "a body in no memory")]
#[test_case(&[7; 40_000]; "longer than any")]
#[tokio::test]
async fn what_is_no_message_ends_the_link(text: &[u8]) {
    let (one, other) = pair();
    let link = Link::start(one, |_| panic!("it is no message")).unwrap();
    let text = if text.is_empty() { &[1, 2, 3] } else { text };
    rustix::net::send(&other, text, rustix::net::SendFlags::empty()).unwrap();
    link.closed().await;
}
