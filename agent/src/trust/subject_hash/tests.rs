use super::*;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use test_case::test_case;

// Made with `openssl req -x509`, hashed with `openssl x509 -hash` (OpenSSL 3.0).
const PLAIN: &str = "\
-----BEGIN CERTIFICATE-----
MIIB4TCCAYegAwIBAgIUFret0oqDbYcswPCHEwK5OS+csjAwCgYIKoZIzj0EAwIw
RTELMAkGA1UEBhMCVVMxGTAXBgNVBAoMEFRpZGUgIEdhdGUgICBJbmMxGzAZBgNV
BAMMEiBMb2NhbCBDQSBPZiBIT1NUIDAgFw0yNjExMjIwMjUwMDVaGA8yMTI2MTAy
OTAyNTAwNVowRTELMAkGA1UEBhMCVVMxGTAXBgNVBAoMEFRpZGUgIEdhdGUgICBJ
bmMxGzAZBgNVBAMMEiBMb2NhbCBDQSBPZiBIT1NUIDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABB3IywCnO7O+wKfR6x7U4+ECP5kYJ1Wd/bgsplA9hgAIxmix8PZT
Zxi5Kg55FWYuwqsEFZy3AARIcu3chj8YYiCjUzBRMB0GA1UdDgQWBBQgTzhCK9Js
ywZCyer6BBVWb8MTxjAfBgNVHSMEGDAWgBQgTzhCK9JsywZCyer6BBVWb8MTxjAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCi0skDCPSUcdpIuWGB
1FblNEP6twZogAqScOzvg/sptQIgdx1Hd8Yx0kO0c5R4puW6QCh5c4rFkkRyM+zE
wAQpxmA=
-----END CERTIFICATE-----
";
const UTF8_SUBJECT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBtzCCAV2gAwIBAgIUQ/y1EELgtogESYUjzzDtwC6z3T8wCgYIKoZIzj0EAwIw
MDEVMBMGA1UECgwMWsO8cmljaCBHbWJIMRcwFQYDVQQDDA7DnG7Dr2NvZGUgUk9P
VDAgFw0yNjExMjIwMjUwMDVaGA8yMTI2MTAyOTAyNTAwNVowMDEVMBMGA1UECgwM
WsO8cmljaCBHbWJIMRcwFQYDVQQDDA7DnG7Dr2NvZGUgUk9PVDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABAen34t6JErmzmqinbCfUM6AUYalvyOdJ3ysW3n5J2JK
J79fvk/JDwT0co9hXulMveLwFNSjOFDEvxWjU4db5t6jUzBRMB0GA1UdDgQWBBRf
QJkKxjqtUzwFkxiktKf52EN0OzAfBgNVHSMEGDAWgBRfQJkKxjqtUzwFkxiktKf5
2EN0OzAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIGyFncK7FKaz
W6j1RZsvAZh2HL3/n3ordiqPPIxbRB5ZAiEAt7cj2xsToU+ZOlVVh7Ow9gElvWoD
d6xxkT7QgXa6mxo=
-----END CERTIFICATE-----
";
const BMP: &str = "\
-----BEGIN CERTIFICATE-----
MIIBeDCCAR8CFDywDplvrVyxOLKqKyR+9dB+vW0tMAoGCCqGSM49BAMCMD4xHzAd
BgNVBAoeFgBaAPwAcgBpAGMAaAAgAEcAbQBiAEgxGzAZBgNVBAMeEgBXAGkAZABl
ACAAUgBPAE8AVDAgFw0yNjExMjIwMjUyMDRaGA8yMTI2MTAyOTAyNTIwNFowPjEf
MB0GA1UECh4WAFoA/AByAGkAYwBoACAARwBtAGIASDEbMBkGA1UEAx4SAFcAaQBk
AGUAIABSAE8ATwBUMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEpbhr9U/NlMFN
CPAflEH6IFVAZIhrb+X6a3dWH7MkagbK4ANSR2AknASPShc935LCmZ8DH61IMo6F
DiUQYYdQsDAKBggqhkjOPQQDAgNHADBEAiB4qcWbzI5nhTPiOt2+8d23O0t9ZeeL
BqjmN8QVPPclPQIgasiFrO11lPrDf6pcFIWDLEh09QUnQxnaoXOgJ1YfE4M=
-----END CERTIFICATE-----
";
const T61: &str = "\
-----BEGIN CERTIFICATE-----
MIIBTTCB8wIUC1yMCvDPEwrWdsG1UZg9GMzDo/cwCgYIKoZIzj0EAwIwKDEUMBIG
A1UEChQLWvxyaWNoIEdtYkgxEDAOBgNVBAMUB1RlbGV0ZXgwIBcNMjYxMTIyMDI1
MjA0WhgPMjEyNjEwMjkwMjUyMDRaMCgxFDASBgNVBAoUC1r8cmljaCBHbWJIMRAw
DgYDVQQDFAdUZWxldGV4MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAERL0qebsn
AvTE8mU+1AtpnA5au1psr8srgSkB3+B2u/ZkaQHCeWPTmhTb6S/bGid2aIcUQNxP
S462WIxxShoVdzAKBggqhkjOPQQDAgNJADBGAiEAhxeY9RJVQiqk9V55cuosxFU7
K4SE6XBtPAUJ32qjq8cCIQDC9KBFtFwg5NM1qBv63to3moCHYvuFDSSmJWofExTP
fA==
-----END CERTIFICATE-----
";
const MULTI: &str = "\
-----BEGIN CERTIFICATE-----
MIIBtzCCAV2gAwIBAgIUJmCtHyJ2iAhsA0wOxMJwOHHKi0QwCgYIKoZIzj0EAwIw
MDEOMAwGA1UEAwwFbXVsdGkxHjAIBgNVBAcMAWMwCAYDVQQKDAFiMAgGA1UECwwB
QTAgFw0yNjExMjIwMjUwMDVaGA8yMTI2MTAyOTAyNTAwNVowMDEOMAwGA1UEAwwF
bXVsdGkxHjAIBgNVBAcMAWMwCAYDVQQKDAFiMAgGA1UECwwBQTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABCjue33QUC7VcIvyT1vqVFkG4XDz4zMCSThhOI/qVsAs
+Dl2qnOgt83TMi0In9kVnfxaQVWG9betJe89R6/1rT6jUzBRMB0GA1UdDgQWBBSP
Ghmi1YEIl/nQ+8atPxNPlopKOjAfBgNVHSMEGDAWgBSPGhmi1YEIl/nQ+8atPxNP
lopKOjAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIAyPvZntQ6EW
dqCMYrWlR01Y5X4EPtMeSqruo7E5ASssAiEAg23Pb5PJZAw9QkTQM7kJ6nNMZe1Y
31ukeI58KKAWoGM=
-----END CERTIFICATE-----
";

#[test_case(PLAIN, 0x98b2eb3b; "case and blanks")]
#[test_case(UTF8_SUBJECT, 0xb3b62ee6; "other letters keep their case")]
#[test_case(BMP, 0x5ef179c8; "two bytes a character")]
#[test_case(T61, 0x91bd19ed; "one byte a character")]
#[test_case(MULTI, 0x020aedfa; "several attributes in one relative name")]
fn the_hash_is_the_one_of_openssl(pem: &str, expected: u32) {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(of(&certificate), Some(expected));
}

#[test]
fn a_certificate_that_breaks_off_has_no_hash() {
    let whole = CertificateDer::from_pem_slice(MULTI.as_bytes()).unwrap();
    for end in 0..whole.len() {
        assert_eq!(of(whole.get(..end).unwrap()), None, "{end}");
    }
    assert_eq!(of(&[0x30, 0]), None);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = of(&bytes);
        let _ = canonical_name(&bytes);
    }
}
