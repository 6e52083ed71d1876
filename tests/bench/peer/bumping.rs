//! squid and mitmproxy: proxies that make a certificate for the name that is asked for, as tidegate does.

use super::{LISTEN, Running};
use crate::place::{Place, Role};
use anyhow::{Context as _, Result, ensure};
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};
use tidegate_tests::{netns::addresses::API_NAME, process::Process};

/// Where squid waits for CONNECT.
const SQUID: &str = "127.0.0.1:3128";

const CONFIG: &str = r"
http_port 127.0.0.1:3128 ssl-bump generate-host-certificates=on tls-cert=DIRECTORY/squid/signing.pem
sslcrtd_program /usr/lib/squid/security_file_certgen -s DIRECTORY/squid/made -M 4MB
sslcrtd_children 1
tls_outgoing_options cafile=DIRECTORY/ca.pem
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
http_access allow all
cache deny all
cache_mem 0 MB
access_log none
cache_log stdio:DIRECTORY/squid/log
cache_store_log none
pid_filename DIRECTORY/squid/pid
coredump_dir none
max_filedescriptors 20000
client_idle_pconn_timeout 10 minutes
server_idle_pconn_timeout 10 minutes
request_start_timeout 10 minutes
shutdown_lifetime 0 seconds
via off
forwarded_for transparent
";

/// Behind a tunnel, since the load generator knows no proxies; the tunnel is on the load's side.
pub(super) fn squid(place: &Place) -> Result<Running> {
    let directory = place.directory().display().to_string();
    let own = place.directory().join("squid");
    let made = own.join("made").display().to_string();
    if !own.exists() {
        fs::create_dir(&own)?;
        fs::copy(place.directory().join("signing.pem"), own.join("signing.pem"))?;
        fs::set_permissions(own.join("signing.pem"), fs::Permissions::from_mode(0o640))?;
        let make = ["/usr/lib/squid/security_file_certgen", "-c", "-s", &made, "-M", "4MB"];
        done(&mut place.command(Role::Load, &make))?;
        // squid gives up root for this user.
        done(Command::new("chown").args(["-R", "proxy:proxy"]).arg(&own))?;
    }
    let config = place.write("squid.conf", CONFIG.replace("DIRECTORY", &directory))?.display().to_string();
    let line = ["squid", "--foreground", "-f", &config];
    let process = Process::start(&mut place.command(Role::Proxy, &line), place.directory())?;
    let tunnel = ["tunnel", "--listen", LISTEN, "--proxy", SQUID, "--to", &format!("{API_NAME}:443")];
    let tunnel = Process::start(&mut place.own(Role::Load, &tunnel)?, place.directory())?;
    Running::listening(place.directory().join("signing-ca.pem"), vec![process, tunnel])
}

pub(super) fn mitmproxy(place: &Place) -> Result<Running> {
    let program = place.mitmdump.as_ref().context("no --mitmdump")?;
    let own = place.directory().join("mitmproxy");
    let set = |name: &str, value: String| ["--set".to_owned(), format!("{name}={value}")];
    let ca_file = place.directory().join("ca.pem");
    let mut line = vec![program.display().to_string(), "--quiet".to_owned()];
    line.extend(["--mode".to_owned(), format!("reverse:https://{API_NAME}:443")]);
    line.extend(set("listen_host", "127.0.0.1".to_owned()));
    line.extend(set("listen_port", "8443".to_owned()));
    line.extend(set("confdir", own.display().to_string()));
    line.extend(set("ssl_verify_upstream_trusted_ca", ca_file.display().to_string()));
    // As the others do, instead of holding a whole body in memory.
    line.extend(set("stream_large_bodies", "64k".to_owned()));
    let process = Process::start(&mut place.command(Role::Proxy, &line), place.directory())?;
    Running::listening(own.join("mitmproxy-ca-cert.pem"), vec![process])
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
