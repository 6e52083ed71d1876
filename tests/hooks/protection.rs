//! The agent's list of protected addresses, as the kernel side keeps it.

use super::{CONNECT, bench::Bench};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tidegate::{
    host::HostName,
    session::protected::{ProtectedAddresses, mirror},
};

fn addresses(answers: &[&str]) -> ProtectedAddresses {
    let answers: Vec<IpAddr> = answers.iter().map(|answer| answer.parse().unwrap()).collect();
    let host = HostName::parse("api.digitalocean.com").unwrap();
    ProtectedAddresses::new(
        vec![host],
        Vec::new(),
        Arc::new(move |_| {
            let answers = answers.clone();
            Box::pin(async move { Ok(answers) })
        }),
    )
}

#[test]
fn what_a_name_resolves_to_is_refused_on_every_port_unless_it_is_this_machine() {
    let bench = Bench::new();
    let learned = addresses(&["192.0.2.1", "64:ff9b::192.0.2.2", "127.0.0.1", "::1"]);
    bench.within(learned.learn_first());
    // What an earlier agent left is none of this one's.
    bench.lists().protected.add("192.0.2.3".parse().unwrap()).unwrap();
    let wanted = Arc::clone(&learned.whole().borrow());
    assert!(mirror::apply(&mut bench.lists().protected, &wanted));

    let (server, port) = bench.server();
    for (address, is_refused) in [
        ("192.0.2.1", true),
        ("192.0.2.2", true),
        ("[::ffff:192.0.2.2]", true),
        ("127.0.0.1", false),
        ("192.0.2.3", false),
    ] {
        let told = bench.subject(&["python3", "-c", CONNECT, &format!("{address}:{port}")]).output();
        assert_eq!(told == "error 1", is_refused, "{address}: {told}");
    }
    drop(server);
    // On a captured port, this machine's own address is as any other.
    let program = bench.subject(&["python3", "-c", CONNECT, "127.0.0.1:443"]);
    assert!(learned.place(bench.accept().destination.0.ip()).protected);
    assert_eq!(program.output(), "peer 127.0.0.1 443");
}

#[test]
fn the_kernels_list_follows_the_agents() {
    let bench = Bench::without_subjects();
    let learned = addresses(&["192.0.2.1", "2001:db8::1"]);
    let mut lists = bench.lists();
    bench.within(async {
        let learns = async {
            learned.learn_first().await;
            // The change is passed on by the other future.
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        tokio::select! {
            () = mirror::mirror(&learned, &mut lists.protected) => panic!("it has ended"),
            () = learns => {}
        }
    });
    let mut listed = lists.protected.addresses().unwrap();
    listed.sort();
    assert_eq!(listed, ["192.0.2.1", "2001:db8::1"].map(|address| address.parse::<IpAddr>().unwrap()));
}
