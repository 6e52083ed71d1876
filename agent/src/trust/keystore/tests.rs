use super::*;
use test_case::test_case;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/keystore/", $name))
    };
}

const COMPANY: &[u8] = fixture!("company.der");
const JKS: &[u8] = fixture!("company.jks");
const KEY_JKS: &[u8] = fixture!("key.jks");
const CLEAR: &[u8] = fixture!("clear.p12");
const ENCRYPTED: &[u8] = fixture!("pbes2.p12");
const KEY_PKCS12: &[u8] = fixture!("key.p12");
const LEGACY: &[u8] = fixture!("legacy.p12");
const OPENSSL: &[u8] = fixture!("openssl.p12");

#[test_case(JKS, "changeit"; "JKS")]
#[test_case(JKS, "another"; "JKS shows them without its password")]
#[test_case(KEY_JKS, "changeit"; "JKS with a key")]
#[test_case(CLEAR, "changeit"; "PKCS 12 in the clear, as JDKs ship it")]
#[test_case(CLEAR, "another"; "PKCS 12 in the clear without its password")]
#[test_case(ENCRYPTED, "secret1"; "PKCS 12 as keytool encrypts it")]
#[test_case(KEY_PKCS12, "changeit"; "PKCS 12 with a key")]
fn the_certificates_that_java_trusts_come_out(content: &[u8], password: &str) {
    let entries = read(content, password).unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (&entry.alias[..], &entry.certificate[..])).collect();
    assert_eq!(found, [(&b"company"[..], COMPANY)]);
}

#[test_case(ENCRYPTED, "changeit", Error::Password; "wrong password")]
#[test_case(LEGACY, "changeit", Error::Encryption; "RC2")]
#[test_case(b"", "", Error::Format; "empty")]
#[test_case(b"-----BEGIN CERTIFICATE-----", "", Error::Format; "PEM")]
#[test_case(b"\xce\xce\xce\xce\0\0\0\x02\0\0\0\0", "", Error::Format; "JCEKS")]
#[test_case(b"\xfe\xed\xfe\xed\0\0\0\x01\0\0\0\0", "", Error::Broken; "JKS version 1")]
#[test_case(b"\xfe\xed\xfe\xed\0\0\0\x02\xff\xff\xff\xff", "", Error::Broken; "more entries than it has")]
fn what_does_not_show_them_is_told(content: &[u8], password: &str, expected: Error) {
    assert_eq!(read(content, password), Err(expected));
}

/// Neither does Java: such a certificate is there for somebody's key.
#[test]
fn a_certificate_without_javas_attribute_is_not_trusted() {
    assert_eq!(read(OPENSSL, "changeit"), Ok(vec![]));
}

#[test]
fn what_is_written_is_what_keytool_writes() {
    let entries = read(JKS, "").unwrap();
    assert_eq!(write(&entries, "changeit").unwrap(), JKS);
    assert_ne!(write(&entries, "another").unwrap(), JKS, "the password vouches for it");
}

#[test]
fn an_alias_that_does_not_fit_is_not_written() {
    let entry = Entry { alias: vec![b'a'; 0x10000], date: 0, certificate: vec![] };
    assert_eq!(write(&[entry], ""), None);
}

/// The length up to which a file of ours has only certificates; JKS has a hash behind them, PKCS#12 a MAC.
#[test_case(JKS, JKS.len() - 20; "JKS")]
#[test_case(KEY_JKS, KEY_JKS.len() - 20; "JKS with a key")]
#[test_case(CLEAR, CLEAR.len(); "PKCS 12 in the clear")]
#[test_case(KEY_PKCS12, KEY_PKCS12.len(); "PKCS 12 encrypted")]
fn what_breaks_off_shows_nothing(content: &[u8], needed: usize) {
    for end in 0..needed {
        assert!(read(&content[..end], "changeit").is_err(), "{end}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = read(&bytes, "changeit");
        let _ = read(&[&MAGIC[..], &2_u32.to_be_bytes(), &bytes].concat(), "changeit");
        let _ = pkcs12::read(&bytes, "changeit");
    }

    #[test]
    fn one_wrong_byte_makes_no_panic(at in 0..KEY_PKCS12.len(), wrong: u8, of_jks: bool) {
        let mut content = if of_jks { KEY_JKS } else { CLEAR }.to_vec();
        let at = at % content.len();
        content[at] = wrong;
        let _ = read(&content, "changeit");
    }

    #[test]
    fn what_is_written_is_read_again(
        texts: Vec<(Vec<u8>, u64, Vec<u8>)>,
        password: String,
    ) {
        let entries: Vec<_> =
            texts.into_iter().map(|(alias, date, certificate)| Entry { alias, date, certificate }).collect();
        let written = write(&entries, &password).unwrap();
        proptest::prop_assert_eq!(read(&written, &password), Ok(entries));
    }
}
