//! Just enough of PEM to join bundles.

/// The labels of certificates: RFC 7468's, an old one, and OpenSSL's with trust settings.
const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// The certificates of `content` and behind them the `anchors`, each a PEM text that stands there once: old versions
/// of OpenSSL refuse a file that has a certificate twice. None where `content` is neither empty nor has any.
pub(super) fn merge(content: &[u8], anchors: &[String]) -> Option<Vec<u8>> {
    let blocks = certificates(content);
    if blocks.is_empty() && !content.trim_ascii().is_empty() {
        return None;
    }
    let mut merged = Vec::with_capacity(content.len());
    for block in blocks {
        if anchors.iter().all(|anchor| anchor.as_bytes() != block) {
            merged.extend_from_slice(&block);
        }
    }
    anchors.iter().for_each(|anchor| merged.extend_from_slice(anchor.as_bytes()));
    Some(merged)
}

/// Whether each of the anchors is among the certificates of `content`.
#[cfg(feature = "kubernetes")]
pub(super) fn has_all(content: &[u8], anchors: &[String]) -> bool {
    let blocks = certificates(content);
    anchors.iter().all(|anchor| blocks.iter().any(|block| block == anchor.as_bytes()))
}

/// The certificates of `content` alone: no key, no comment, no block that has no end.
fn certificates(content: &[u8]) -> Vec<Vec<u8>> {
    let mut certificates = Vec::new();
    let mut block: Vec<u8> = Vec::new();
    let mut label = None;
    for line in content.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if let Some(begins) = boundary(line, "-----BEGIN ") {
            block.clear();
            label = LABELS.iter().find(|label| label.as_bytes() == begins);
        }
        let Some(current) = label else { continue };
        block.extend_from_slice(line);
        block.push(b'\n');
        if boundary(line, "-----END ") == Some(current.as_bytes()) {
            certificates.push(std::mem::take(&mut block));
            label = None;
        }
    }
    certificates
}

/// The label between the dashes.
fn boundary<'a>(line: &'a [u8], begin: &str) -> Option<&'a [u8]> {
    line.strip_prefix(begin.as_bytes())?.strip_suffix(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nBB==\n-----END CERTIFICATE-----\n";

    #[test_case("", "" ; "empty")]
    #[test_case("root:x:0:0::/root:/bin/sh\n", "" ; "not pem")]
    #[test_case(ONE, ONE ; "one")]
    #[test_case("# my CA\r\n-----BEGIN CERTIFICATE-----\r\nAA==\r\n-----END CERTIFICATE-----", ONE ; "comment, CR, no last line end")]
    #[test_case("-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", ONE ; "a key before")]
    #[test_case("-----BEGIN CERTIFICATE-----\nBB==\n-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n-----END CERTIFICATE-----\n", "" ; "a key inside")]
    #[test_case("-----BEGIN CERTIFICATE-----\nBB==\n", "" ; "no end")]
    #[test_case("-----BEGIN CERTIFICATE-----\nBB==\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", ONE ; "one that ends after one that does not")]
    fn certificates_come_out_alone(content: &str, expected: &str) {
        assert_eq!(String::from_utf8(certificates(content.as_bytes()).concat()).unwrap(), expected);
    }

    #[test_case("", ONE ; "empty file")]
    #[test_case(TWO, &format!("{TWO}{ONE}") ; "another")]
    #[test_case(&TWO.replace('\n', "\r\n"), &format!("{TWO}{ONE}") ; "another with carriage returns")]
    #[test_case(&format!("{ONE}# comment\n{TWO}"), &format!("{TWO}{ONE}") ; "the anchor itself")]
    fn an_anchor_stands_once_behind_the_others(content: &str, expected: &str) {
        let merged = merge(content.as_bytes(), &[ONE.to_owned()]).unwrap();
        assert_eq!(String::from_utf8(merged).unwrap(), expected);
    }

    #[cfg(feature = "kubernetes")]
    #[test_case(&format!("{TWO}# ours\n{ONE}"), true; "between others")]
    #[test_case(TWO, false; "another alone")]
    #[test_case("", false; "nothing")]
    fn an_anchor_is_recognised(content: &str, expected: bool) {
        assert_eq!(has_all(content.as_bytes(), &[ONE.to_owned()]), expected);
    }

    #[test]
    fn what_holds_no_certificate_is_no_bundle() {
        assert_eq!(merge(b"root:x:0:0::/root:/bin/sh\n", &[ONE.to_owned()]), None);
    }
}
