//! Just enough of PEM to join bundles.

/// The labels of certificates: RFC 7468's, an old one, and OpenSSL's with trust settings.
const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// `bundle` with `certificate` behind it, on a line of its own.
pub(in crate::run) fn append(bundle: &[u8], certificate: &str) -> Vec<u8> {
    let mut joined = bundle.to_vec();
    if !joined.is_empty() && !joined.ends_with(b"\n") {
        joined.push(b'\n');
    }
    joined.extend_from_slice(certificate.trim_end().as_bytes());
    joined.push(b'\n');
    joined
}

/// The certificates of `content` alone: no key, no comment, no block that has no end.
pub(in crate::run) fn certificates(content: &[u8]) -> Vec<u8> {
    let mut certificates = Vec::new();
    let mut block: Vec<&[u8]> = Vec::new();
    let mut end = None;
    for line in content.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        let begins = LABELS.iter().find(|label| line == format!("-----BEGIN {label}-----").as_bytes());
        if let Some(label) = begins {
            block.clear();
            end = Some(format!("-----END {label}-----"));
        } else if line.starts_with(b"-----BEGIN ") {
            end = None;
        }
        let Some(last) = &end else { continue };
        block.push(line);
        if line == last.as_bytes() {
            for line in block.drain(..) {
                certificates.extend_from_slice(line);
                certificates.push(b'\n');
            }
            end = None;
        }
    }
    certificates
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    #[test_case("", "" ; "empty")]
    #[test_case("root:x:0:0::/root:/bin/sh\n", "" ; "not pem")]
    #[test_case(ONE, ONE ; "one")]
    #[test_case("# my CA\r\n-----BEGIN CERTIFICATE-----\r\nAA==\r\n-----END CERTIFICATE-----", ONE ; "comment, CR, no last line end")]
    #[test_case("-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", ONE ; "a key before")]
    #[test_case("-----BEGIN CERTIFICATE-----\nBB==\n-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n-----END CERTIFICATE-----\n", "" ; "a key inside")]
    #[test_case("-----BEGIN CERTIFICATE-----\nBB==\n", "" ; "no end")]
    fn certificates_come_out_alone(content: &str, expected: &str) {
        assert_eq!(String::from_utf8(certificates(content.as_bytes())).unwrap(), expected);
    }

    #[test_case("a", "a\nC\n" ; "no line end")]
    #[test_case("a\n", "a\nC\n" ; "line end")]
    #[test_case("", "C\n" ; "empty bundle")]
    fn a_certificate_begins_on_its_own_line(bundle: &str, expected: &str) {
        assert_eq!(String::from_utf8(append(bundle.as_bytes(), "C\n\n")).unwrap(), expected);
    }
}
