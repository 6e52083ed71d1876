//! `upstream.proxy`: the forward proxy that the agent's own connections to protected hosts go through.

use super::{upstream::Resolve, via::Via};
use crate::{
    config::{self, ForwardProxy, forward_proxy::ProxyHost},
    host::HostName,
    terminate::files,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use std::{io, net::SocketAddr, path::PathBuf};
use zeroize::Zeroizing;

/// Why the proxy's credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Their file cannot be read, or others can read it.
    #[error("`upstream.proxy_credentials` cannot be used")]
    File(#[from] files::Error),
    /// Their file holds something else. The content is not repeated.
    #[error("`upstream.proxy_credentials` `{}` does not hold `user:password` in one line", .0.display())]
    Form(PathBuf),
}

/// What the file of credentials holds, if there is one: what can be used.
pub(super) fn credentials(settings: &config::Upstream) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let Some(path) = settings.proxy_credentials.as_ref().filter(|_| settings.proxy.is_some()) else {
        return Ok(None);
    };
    let content = files::read_secret(path, files::Allowed::Owner)?;
    if encode(&content).is_none() {
        return Err(Error::Form(path.clone()));
    }
    Ok(Some(content))
}

/// The proxy, and who the agent is to it.
pub(super) struct OwnProxy {
    place: ForwardProxy,
    /// What stands behind `Basic`.
    credentials: Option<Zeroizing<String>>,
}

impl OwnProxy {
    /// The configured one, if any.
    pub(super) fn load(settings: &config::Upstream) -> Result<Option<Self>, Error> {
        let Some(place) = settings.proxy.clone() else { return Ok(None) };
        let credentials = credentials(settings)?.and_then(|content| encode(&content));
        Ok(Some(Self { place, credentials }))
    }

    /// The request for a tunnel to the host. By name, since this machine may not be able to resolve it.
    pub(super) fn tunnel_to(&self, host: &HostName, port: u16) -> Via {
        let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(credentials) = &self.credentials {
            head.push_str("Proxy-Authorization: Basic ");
            head.push_str(credentials);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        Via::new(Bytes::from(head), port)
    }

    /// Where it can be reached, the first to be tried first.
    pub(super) async fn addresses(&self, resolve: &Resolve) -> io::Result<Vec<SocketAddr>> {
        let addresses = match &self.place.host {
            ProxyHost::Address(address) => vec![*address],
            ProxyHost::Name(name) => resolve(name.clone()).await?,
        };
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, self.place.port)).collect())
    }
}

fn encode(content: &[u8]) -> Option<Zeroizing<String>> {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_pair = line.iter().position(|byte| *byte == b':').is_some_and(|colon| colon > 0);
    let is_one_line = !line.iter().any(u8::is_ascii_control);
    (is_pair && is_one_line).then(|| Zeroizing::new(STANDARD.encode(line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};
    use test_case::test_case;

    fn settings(credentials: Option<PathBuf>) -> config::Upstream {
        let proxy = ForwardProxy::parse("http://10.0.0.1:3128").unwrap();
        let defaults = config::Config::default().upstream;
        config::Upstream { proxy: Some(proxy), proxy_credentials: credentials, ..defaults }
    }

    #[test]
    fn the_tunnel_is_asked_for_by_name_with_the_files_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "Aladdin:open sesame\n").unwrap();
        let host = HostName::parse("api.digitalocean.com").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = OwnProxy::load(&settings(Some(path.clone()))).map(drop).unwrap_err();
        assert!(matches!(error, Error::File(files::Error::Exposed { .. })), "{error:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let proxy = OwnProxy::load(&settings(Some(path))).unwrap().unwrap();
        let head = "CONNECT api.digitalocean.com:443 HTTP/1.1\r\nHost: api.digitalocean.com:443\r\n\
                    Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        assert_eq!(proxy.tunnel_to(&host, 443).head(), head.as_bytes());
        let proxy = OwnProxy::load(&settings(None)).unwrap().unwrap();
        let head = "CONNECT api.digitalocean.com:8443 HTTP/1.1\r\nHost: api.digitalocean.com:8443\r\n\r\n";
        assert_eq!(proxy.tunnel_to(&host, 8443).head(), head.as_bytes());
        assert!(OwnProxy::load(&config::Config::default().upstream).unwrap().is_none());
    }

    #[test_case("user:password", true)]
    #[test_case("user:pass:word\r\n", true; "colon in the password")]
    #[test_case("user:", true; "no password")]
    #[test_case("", false; "empty")]
    #[test_case("user", false; "no colon")]
    #[test_case(":password", false; "no user")]
    #[test_case("user:password\nX-Other: 1\n", false; "two lines")]
    #[test_case("user:pass\rword", false; "carriage return")]
    fn credentials_are_one_line(content: &str, expected: bool) {
        assert_eq!(encode(content.as_bytes()).is_some(), expected);
    }
}
