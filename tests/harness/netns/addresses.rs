//! Who is where in a world. The addresses are of the ranges set aside for documentation, but for [`EDGE`], which
//! has to lie in the ranges of the CDN in front of the API.

use crate::standin::{Config, Service, Tls};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// The API's name.
pub const API_NAME: &str = "api.digitalocean.com";
/// A name that is not protected.
pub const OTHER_NAME: &str = "other.example";
/// Another name of the API's domain.
pub const REGISTRY_NAME: &str = "registry.digitalocean.com";

/// The API: HTTPS on 443 and 8443, plain HTTP on 80, bytes that come back on 2053.
pub const API: IpAddr = v4([192, 0, 2, 10]);
/// The API over IPv6: HTTPS on 443.
pub const API_V6: IpAddr = v6(0, 0x10);
/// The API without HTTP/2: HTTPS on 443.
pub const API_HTTP1: IpAddr = v4([192, 0, 2, 11]);
/// The API without HTTP/1.1: HTTPS on 443.
pub const API_HTTP2: IpAddr = v4([192, 0, 2, 12]);
/// Accepts on 443 and never answers.
pub const MUTE: IpAddr = v4([192, 0, 2, 13]);
/// Claims the API's name: on 443 with a certificate of an unknown authority, on 8443 with another name's.
pub const IMPOSTOR: IpAddr = v4([192, 0, 2, 14]);
/// The registry: HTTPS on 443.
pub const REGISTRY: IpAddr = v4([192, 0, 2, 30]);
/// Another host: HTTPS on 443, TLS whose bytes come back on 8443, plain HTTP on 80.
pub const OTHER: IpAddr = v4([198, 51, 100, 20]);
/// Another host over IPv6: as [`OTHER`].
pub const OTHER_V6: IpAddr = v6(2, 0x20);
/// Not TLS: bytes that come back on 443, a server that speaks first on 8443.
pub const RAW: IpAddr = v4([198, 51, 100, 21]);
/// Within the CDN's ranges: TLS whose bytes come back on 443, for [`OTHER_NAME`].
pub const EDGE: IpAddr = v4([104, 16, 0, 9]);
/// HTTP proxies: one for everybody on 3128, and one on 3129 that wants [`PROXY_AUTHORIZATION`].
pub const PROXY: IpAddr = v4([198, 51, 100, 30]);
/// The first of the proxies over IPv6.
pub const PROXY_V6: IpAddr = v6(2, 0x30);
/// User `me` with the password `secret-word`.
pub const PROXY_AUTHORIZATION: &str = "Basic bWU6c2VjcmV0LXdvcmQ=";
/// Nobody listens here.
pub const NOBODY: IpAddr = v4([192, 0, 2, 99]);

/// What names resolve to in a new world.
pub const NAMES: &[(IpAddr, &str)] = &[
    (API, API_NAME),
    (API_V6, API_NAME),
    (REGISTRY, REGISTRY_NAME),
    (OTHER, OTHER_NAME),
    (OTHER_V6, OTHER_NAME),
];

/// A stand-in for everybody above.
pub fn everybody(directory: &Path, ipv6: bool) -> Config {
    let https = |name| Service::Https(Tls::of(&[name]));
    let at = SocketAddr::new;
    let config = Config::new(directory)
        .listen(at(API, 443), https(API_NAME))
        .listen(at(API, 8443), https(API_NAME))
        .listen(at(API, 80), Service::Http)
        .listen(at(API, 2053), Service::Echo)
        .listen(at(API_HTTP1, 443), Service::Https(Tls::of(&[API_NAME]).offering(&["http/1.1"])))
        .listen(at(API_HTTP2, 443), Service::Https(Tls::of(&[API_NAME]).offering(&["h2"])))
        .listen(at(MUTE, 443), Service::Mute)
        .listen(at(IMPOSTOR, 443), Service::Https(Tls::of(&[API_NAME]).untrusted()))
        .listen(at(IMPOSTOR, 8443), https(OTHER_NAME))
        .listen(at(REGISTRY, 443), https(REGISTRY_NAME))
        .listen(at(OTHER, 443), https(OTHER_NAME))
        .listen(at(OTHER, 8443), Service::TlsEcho(Tls::of(&[OTHER_NAME])))
        .listen(at(OTHER, 80), Service::Http)
        .listen(at(RAW, 443), Service::Echo)
        .listen(at(RAW, 8443), Service::Banner)
        .listen(at(EDGE, 443), Service::TlsEcho(Tls::of(&[OTHER_NAME])))
        .listen(at(PROXY, 3128), Service::Proxy { authorization: None })
        .listen(at(PROXY, 3129), Service::Proxy { authorization: Some(PROXY_AUTHORIZATION.to_owned()) });
    if ipv6 {
        config
            .listen(at(PROXY_V6, 3128), Service::Proxy { authorization: None })
            .listen(at(API_V6, 443), https(API_NAME))
            .listen(at(OTHER_V6, 443), https(OTHER_NAME))
            .listen(at(OTHER_V6, 80), Service::Http)
            .listen(at(OTHER_V6, 8443), Service::TlsEcho(Tls::of(&[OTHER_NAME])))
    } else {
        config
    }
}

const fn v4([a, b, c, d]: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(network: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host))
}
