use super::*;
use std::{fs, os::unix::fs::symlink};
use test_case::test_case;

struct World {
    directory: tempfile::TempDir,
    anchors: String,
}

fn certificate(name: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("published")).unwrap();
        Self { directory, anchors: certificate("local") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn prepare(&self, spec: &Spec, image: Image<'_>) -> Adjustment {
        let published = Published { directory: &self.path("published"), anchors: &self.anchors };
        let adjustment = prepare(spec, image, &published, &self.path("copies")).unwrap();
        assert!(!self.path("copies/sketch").exists());
        adjustment
    }

    /// Where the machine has what is laid over this path.
    fn source(adjustment: &Adjustment, destination: &str) -> Option<PathBuf> {
        let mount = adjustment.mounts.iter().find(|mount| mount.destination == Path::new(destination));
        mount.map(|mount| mount.source.clone())
    }
}

fn spec(environment: &[(&str, &str)], mounts: &[(&str, PathBuf)]) -> Spec {
    Spec {
        environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        arguments: vec!["/bin/sh".into()],
        mounts: mounts
            .iter()
            .map(|(destination, source)| Mount {
                destination: destination.into(),
                source: source.clone(),
                is_bind: true,
            })
            .collect(),
    }
}

fn variable<'a>(adjustment: &'a Adjustment, name: &str) -> Option<&'a str> {
    adjustment.environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

#[test]
fn an_unknown_image_gets_the_published_files() {
    let world = World::new();
    let adjustment = world.prepare(&spec(&[("PATH", "/bin")], &[]), Image::Unknown);
    let bundle = Some(world.path("published/ca-bundle.pem"));
    for place in plan::PLACES {
        assert_eq!(World::source(&adjustment, place), bundle, "{place}");
    }
    assert_eq!(World::source(&adjustment, "/run/tidegate-trust"), Some(world.path("published")));
    assert_eq!(variable(&adjustment, "SSL_CERT_FILE"), Some("/run/tidegate-trust/ca-bundle.pem"));
    assert_eq!(variable(&adjustment, "NODE_EXTRA_CA_CERTS"), Some("/run/tidegate-trust/ca.pem"));
    assert_eq!(variable(&adjustment, "DENO_TLS_CA_STORE"), Some("system,mozilla"));
    assert_eq!(variable(&adjustment, "PATH"), None);
    assert_eq!(adjustment.warnings, Vec::<String>::new());
}

#[test]
fn a_variable_of_the_containers_own_stays_and_says_so() {
    let world = World::new();
    let own = [("SSL_CERT_FILE", "/corp.pem"), ("DENO_TLS_CA_STORE", "mozilla"), ("REQUESTS_CA_BUNDLE", "")];
    let adjustment = world.prepare(&spec(&own, &[]), Image::Unknown);
    assert_eq!(variable(&adjustment, "SSL_CERT_FILE"), None);
    assert_eq!(variable(&adjustment, "DENO_TLS_CA_STORE"), None);
    assert_eq!(
        variable(&adjustment, "REQUESTS_CA_BUNDLE"),
        Some("/run/tidegate-trust/ca-bundle.pem"),
        "empty is unset"
    );
    let [warning] = adjustment.warnings.as_slice() else { panic!("{:?}", adjustment.warnings) };
    assert!(warning.starts_with("SSL_CERT_FILE=`/corp.pem` is the pod's own"), "{warning}");
}

#[test]
fn a_file_that_the_pod_mounts_is_merged_in_place() {
    let world = World::new();
    let corporate = certificate("corporate");
    // As the kubelet lays out a ConfigMap.
    world.write("volume/..2026/ca.pem", &corporate);
    symlink("..2026", world.path("volume/..data")).unwrap();
    symlink("..data/ca.pem", world.path("volume/ca.pem")).unwrap();
    let spec = spec(&[("SSL_CERT_FILE", "/etc/corp/ca.pem")], &[("/etc/corp", world.path("volume"))]);
    let adjustment = world.prepare(&spec, Image::Unknown);
    assert_eq!(variable(&adjustment, "SSL_CERT_FILE"), None, "it stays");
    let copy = World::source(&adjustment, "/etc/corp/ca.pem").unwrap();
    let merged = fs::read_to_string(copy).unwrap();
    assert!(merged.contains(corporate.trim()) && merged.contains(world.anchors.trim()), "{merged}");
    assert_eq!(fs::read_to_string(world.path("volume/ca.pem")).unwrap(), corporate, "theirs is not changed");
    assert_eq!(adjustment.warnings, Vec::<String>::new());
}

#[test_case("link", "/etc/passwd"; "absolute")]
#[test_case("link", "../../../../etc/passwd"; "relative")]
fn a_link_out_of_the_volume_shows_nothing_of_the_machines(name: &str, target: &str) {
    let world = World::new();
    fs::create_dir(world.path("volume")).unwrap();
    symlink(target, world.path("volume").join(name)).unwrap();
    let named = format!("/etc/corp/{name}");
    let spec = spec(&[("SSL_CERT_FILE", &named)], &[("/etc/corp", world.path("volume"))]);
    let adjustment = world.prepare(&spec, Image::Unknown);
    assert_eq!(World::source(&adjustment, &named), None);
    assert_eq!(adjustment.warnings.len(), 1, "{:?}", adjustment.warnings);
}

#[test]
fn a_bundle_that_the_pod_mounts_over_the_images_is_merged() {
    let world = World::new();
    world.write("volume.pem", &certificate("corporate"));
    let place = "/etc/ssl/certs/ca-certificates.crt";
    let adjustment = world.prepare(&spec(&[], &[(place, world.path("volume.pem"))]), Image::Unknown);
    let copy = World::source(&adjustment, place).unwrap();
    assert_eq!(fs::read_to_string(copy).unwrap().matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(adjustment.mounts.iter().filter(|mount| mount.destination == Path::new(place)).count(), 1);
}

#[test]
fn mounts_of_the_pods_are_left_alone() {
    let world = World::new();
    fs::create_dir(world.path("empty")).unwrap();
    let mounts = [("/etc/ssl/certs", world.path("empty")), ("/run", world.path("empty"))];
    let adjustment = world.prepare(&spec(&[], &mounts), Image::Unknown);
    assert_eq!(World::source(&adjustment, "/etc/ssl/certs/ca-certificates.crt"), None);
    assert!(World::source(&adjustment, "/etc/ssl/cert.pem").is_some());
    assert_eq!(World::source(&adjustment, "/var/lib/tidegate-trust"), Some(world.path("published")));
    assert_eq!(variable(&adjustment, "SSL_CERT_FILE"), Some("/var/lib/tidegate-trust/ca-bundle.pem"));
}

#[test]
fn a_known_image_keeps_its_own_roots() {
    let world = World::new();
    let own = certificate("own root");
    world.write("image/etc/ssl/certs/ca-certificates.crt", &own);
    world.write("image/usr/lib/python3/dist-packages/certifi/cacert.pem", &own);
    world.write("image/etc/pki/tls/certs/ca-bundle.crt", &own);
    fs::create_dir(world.path("empty")).unwrap();
    let spec = spec(&[], &[("/etc/pki", world.path("empty"))]);
    let adjustment = world.prepare(&spec, Image::Tree(&world.path("image")));
    let place = "/etc/ssl/certs/ca-certificates.crt";
    assert_eq!(variable(&adjustment, "SSL_CERT_FILE"), Some(place));
    let merged = fs::read_to_string(World::source(&adjustment, place).unwrap()).unwrap();
    assert!(merged.contains(own.trim()) && merged.contains(world.anchors.trim()));
    assert!(World::source(&adjustment, "/usr/lib/python3/dist-packages/certifi/cacert.pem").is_some());
    assert_eq!(World::source(&adjustment, "/etc/ssl/cert.pem"), None, "the image has none");
    assert_eq!(World::source(&adjustment, "/etc/pki/tls/certs/ca-bundle.crt"), None);
    assert!(adjustment.warnings.iter().any(|warning| warning.contains("lies in a mount of the pod's")));
}
