//! HAProxy and nginx: TLS to TLS with one certificate and no policy, the practical limit.

use super::{Carried, Running};
use crate::place::{Place, Role};
use anyhow::Result;
use tidegate_tests::{
    netns::addresses::{API, API_NAME, OTHER},
    process::Process,
};

const HAPROXY: &str = r"
global
    nbthread 1
    maxconn 12000
    no strict-limits
    ssl-server-verify required
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10m
    timeout http-request 10m
    http-reuse always
frontend clients
    bind 127.0.0.1:8443 ssl crt DIRECTORY/static.pem alpn h2,http/1.1 backlog 16384
    default_backend api
backend api
    server api API:443 ssl verify required ca-file DIRECTORY/ca.pem sni str(NAME) alpn ALPN
";

const HAPROXY_TCP: &str = r"
global
    nbthread 1
    maxconn 12000
    no strict-limits
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 10m
    timeout server 10m
listen other
    bind 127.0.0.1:8443 backlog 16384
    server other OTHER:443
";

const NGINX: &str = r"
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid DIRECTORY/nginx.pid;
error_log stderr error;
events { worker_connections 19000; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    http2_max_concurrent_streams 1024;
    client_body_temp_path DIRECTORY/nginx-body;
    proxy_temp_path DIRECTORY/nginx-proxy;
    ssl_protocols TLSv1.3;
    upstream api {
        server API:443;
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }
    server {
        listen 127.0.0.1:8443 ssl http2 backlog=16384;
        ssl_certificate DIRECTORY/static.pem;
        ssl_certificate_key DIRECTORY/static.pem;
        location / {
            proxy_pass https://api;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_set_header Host NAME;
            proxy_ssl_name NAME;
            proxy_ssl_server_name on;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate DIRECTORY/ca.pem;
            proxy_ssl_protocols TLSv1.3;
            proxy_max_temp_file_size 0;
        }
    }
}
";

/// It speaks upstream what its clients speak.
pub(super) fn haproxy(place: &Place, carried: Carried) -> Result<Running> {
    let config = match carried {
        Carried::Http1 => filled(place, HAPROXY).replace("ALPN", "http/1.1"),
        Carried::Http2 => filled(place, HAPROXY).replace("ALPN", "h2"),
        Carried::Bytes => filled(place, HAPROXY_TCP),
    };
    let config = place.write("haproxy.conf", config)?.display().to_string();
    start(place, &["haproxy", "-db", "-f", &config])
}

/// It speaks HTTP/1.1 upstream, whatever its clients speak.
pub(super) fn nginx(place: &Place) -> Result<Running> {
    let config = place.write("nginx.conf", filled(place, NGINX))?.display().to_string();
    let directory = place.directory().display().to_string();
    start(place, &["nginx", "-e", "stderr", "-p", &directory, "-c", &config])
}

fn filled(place: &Place, config: &str) -> String {
    let directory = place.directory().display().to_string();
    config
        .replace("DIRECTORY", &directory)
        .replace("API:443", &format!("{API}:443"))
        .replace("OTHER:443", &format!("{OTHER}:443"))
        .replace("NAME", API_NAME)
}

fn start(place: &Place, line: &[&str]) -> Result<Running> {
    let process = Process::start(&mut place.command(Role::Proxy, line), place.directory())?;
    Running::listening(place.directory().join("ca.pem"), vec![process])
}
