//! The harness tests itself: a stand-in that lied or a world that leaked would make every other test worthless.

use anyhow::Result;
use std::time::Duration;
use test_case::test_case;
use tidegate_tests::{
    client::{self, Answer, Client, TOKEN},
    netns::{World, addresses},
    process::Process,
    standin::{Served, pattern},
};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs a client in the world, trusting the stand-in directly.
fn ask(world: &World, standin: &Served, line: &[String]) -> Result<Answer> {
    let mut command = world.command(line);
    client::trust(&mut command, &standin.ca_file());
    Answer::of(&Process::run(&mut command, world.directory(), LIMIT)?)
}

#[test]
fn every_client_reads_and_writes() -> Result<()> {
    let world = World::new()?;
    let standin = Served::everybody(&world)?;
    let url = "https://api.digitalocean.com/v2/droplets";
    for (index, client) in Client::ALL.into_iter().enumerate() {
        let read = ask(&world, &standin, &client.request("GET", url, "")?)?;
        assert_eq!((read.status, read.version.as_str()), (200, client.version()), "{client:?}: {read:?}");
        assert_eq!(read.json()?["meta"]["total"], 3 + index, "{client:?}");
        let body = format!(
            r#"{{"name":"made-{index}","size":"s-1vcpu-1gb","region":"nyc3","image":"debian-12-x64"}}"#
        );
        let made = ask(&world, &standin, &client.request("POST", url, &body)?)?;
        assert_eq!(made.status, 202, "{client:?}: {made:?}");

        let requests = standin.log().requests()?;
        let [.., get, post] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!(get.protocol, client.version());
        assert_eq!(get.server_name.as_deref(), Some("api.digitalocean.com"));
        assert_eq!(get.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
        assert_eq!(
            (post.method.as_str(), post.body_bytes, post.complete),
            ("POST", Some(body.len() as u64), true)
        );
    }
    world.close()
}

#[test]
fn a_deleted_droplet_is_gone_and_an_unknown_path_is_not_found() -> Result<()> {
    let world = World::new()?;
    let standin = Served::everybody(&world)?;
    let call = |method: &str, path: &str| {
        let url = format!("https://api.digitalocean.com{path}");
        ask(&world, &standin, &client::curl(&["--request", method], &url, ""))
    };
    assert_eq!(call("DELETE", "/v2/droplets/3164444")?.status, 204);
    assert_eq!(call("DELETE", "/v2/droplets/3164444")?.status, 404);
    assert_eq!(call("GET", "/v2/droplets")?.json()?["meta"]["total"], 2);
    assert_eq!(call("GET", "/v2/droplets?per_page=1")?.json()?["droplets"].as_array().map(Vec::len), Some(1));
    assert_eq!(call("GET", "/v2/nothing")?.status, 404);
    assert_eq!(call("GET", "/v2/account")?.json()?["account"]["status"], "active");
    world.close()
}

#[test]
fn a_call_without_a_token_is_unauthorized() -> Result<()> {
    let world = World::new()?;
    let standin = Served::everybody(&world)?;
    let line = client::curl(&["--header", "Authorization:"], "https://api.digitalocean.com/v2/account", "");
    let line: Vec<String> =
        line.into_iter().filter(|word| !word.contains(TOKEN) && word != "--header").collect();
    let line: Vec<String> = line.into_iter().filter(|word| word != "Authorization:").collect();
    let answer = ask(&world, &standin, &line)?;
    assert_eq!((answer.status, answer.json()?["id"].as_str()), (401, Some("Unauthorized")));
    Ok(())
}

#[test_case("--http1.1"; "http1")]
#[test_case("--http2"; "http2")]
fn bent_answers_are_what_they_say(version: &str) -> Result<()> {
    let world = World::new()?;
    let standin = Served::everybody(&world)?;
    let ask = |query: &str, body: &str| {
        let url = format!("https://api.digitalocean.com/v2/droplets?{query}");
        ask(&world, &standin, &client::curl(&[version], &url, body))
    };
    let long = ask("standin_bytes=1000003", "")?;
    assert!(long.body == pattern(1_000_003), "{} bytes", long.body.len());
    assert_eq!(ask("standin_echo=1", "some bytes")?.text(), "some bytes");
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert!(ask("standin_digest=1", "hello")?.text().contains(digest));
    assert_eq!(ask("standin_events=3", "")?.text().matches("data: ").count(), 3);
    let page = ask("standin_page=403", "")?;
    assert!(page.status == 403 && page.text().contains("<html>"), "{page:?}");

    let url = "https://api.digitalocean.com/v2/droplets?standin_break=5000";
    let mut command = world.command(&client::curl(&[version], url, ""));
    client::trust(&mut command, &standin.ca_file());
    let broken = Process::run(&mut command, world.directory(), LIMIT)?;
    assert!(!broken.status.success() && broken.stdout == pattern(5000), "{:?}", broken.status);
    Ok(())
}

#[test]
fn everybody_is_reached_under_the_right_name_only() -> Result<()> {
    let world = World::new()?;
    let standin = Served::everybody(&world)?;
    let status = |options: &[&str], url: &str| {
        ask(&world, &standin, &client::curl(options, url, "")).map_or(0, |answer| answer.status)
    };
    let to = |address: std::net::IpAddr, port: u16| format!("api.digitalocean.com:443:{address}:{port}");
    let api = "https://api.digitalocean.com/v2/account";
    assert_eq!(status(&["-4"], api), 200);
    assert_eq!(status(&["-6"], api), 200);
    assert_eq!(status(&[], "https://api.digitalocean.com:8443/v2/account"), 200);
    assert_eq!(status(&[], "http://api.digitalocean.com/v2/account"), 200);
    assert_eq!(status(&[], "https://other.example/v2/account"), 200);
    assert_eq!(status(&[], "https://registry.digitalocean.com/v2/account"), 200);
    assert_eq!(status(&["--connect-to", &to(addresses::API_HTTP1, 443)], api), 200);
    assert_eq!(status(&["--http2", "--connect-to", &to(addresses::API_HTTP2, 443)], api), 200);
    assert_eq!(status(&["--connect-to", &to(addresses::IMPOSTOR, 443)], api), 0, "unknown authority");
    assert_eq!(status(&["--connect-to", &to(addresses::IMPOSTOR, 8443)], api), 0, "another's certificate");
    assert_eq!(status(&["--connect-to", &to(addresses::NOBODY, 443)], api), 0, "nobody listens");
    Ok(())
}

#[test]
fn raw_bytes_come_back() -> Result<()> {
    const SCRIPT: &str = r#"
import socket, sys
for port, greeting in ((443, b""), (8443, b"220 stand-in ready\r\n")):
    connection = socket.create_connection((sys.argv[1], port), timeout=10)
    sent = bytes(range(256)) * 400
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received == greeting + sent, (port, len(received))
print("same")
"#;
    let world = World::new()?;
    let _standin = Served::everybody(&world)?;
    let raw = addresses::RAW.to_string();
    let mut command = world.command(&["python3", "-c", SCRIPT, &raw]);
    let finished = Process::run(&mut command, world.directory(), LIMIT)?;
    assert_eq!(finished.text(), "same\n", "{finished:?}");
    Ok(())
}

/// What the agent's test for a global route does: a UDP connect, which sends nothing.
#[test]
fn a_world_has_global_routes_of_its_families_only() -> Result<()> {
    const SCRIPT: &str = r#"
import socket
for family, address in ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        probe = socket.socket(family, socket.SOCK_DGRAM)
        probe.connect((address, 443))
        print(probe.getsockname()[0])
    except OSError:
        print("none")
"#;
    for (world, expected) in
        [(World::new()?, "198.18.0.1\n2001:db8:ffff::1\n"), (World::ipv4_only()?, "198.18.0.1\nnone\n")]
    {
        let mut command = world.command(&["python3", "-c", SCRIPT]);
        assert_eq!(Process::run(&mut command, world.directory(), LIMIT)?.text(), expected);
    }
    Ok(())
}

#[test]
fn a_world_ends_with_all_its_processes() -> Result<()> {
    let world = World::new()?;
    let sleeper = Process::start(
        &mut world.command(&["sh", "-c", "setsid sleep 1000 & echo up; wait"]),
        world.directory(),
    );
    sleeper?.wait_for_output("up", LIMIT)?;
    let (cgroup, directory) = (world.cgroup().clone(), world.directory().to_owned());
    cgroup.child("deep")?.child("deeper")?;
    let processes = cgroup.processes()?;
    assert!(!processes.is_empty());
    world.close()?;
    assert!(!cgroup.path().exists() && !directory.exists());
    for process in processes {
        assert!(!std::path::Path::new(&format!("/proc/{process}/ns/net")).exists(), "{process} lives");
    }
    Ok(())
}
