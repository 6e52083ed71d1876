use super::{
    architecture,
    archive::{Entry, tar},
    layout::{Image, Layout, created, digest},
    root,
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, process::Command};

fn layout(images: &[Image]) -> (Layout, BTreeMap<String, Vec<u8>>) {
    let layout = Layout::of(images, "registry.example/tidegate:1.2.3", 1_700_000_000).unwrap();
    let files = layout.entries.iter().filter_map(|entry| Some((entry.path.clone(), entry.content.clone()?)));
    let files = files.collect();
    (layout, files)
}

fn blob<'f>(files: &'f BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'f [u8] {
    let name = descriptor["digest"].as_str().unwrap();
    let content = &files[&format!("blobs/{}", name.replace(':', "/"))];
    assert_eq!(
        (digest(content).as_str(), content.len() as u64),
        (name, descriptor["size"].as_u64().unwrap())
    );
    content
}

fn json(content: &[u8]) -> Value {
    serde_json::from_slice(content).unwrap()
}

#[test]
fn every_descriptor_leads_to_a_blob_of_its_digest_and_size() {
    let images = [("amd64", b"one"), ("arm64", b"two")];
    let images = images.map(|(architecture, layer)| Image { architecture, layer: layer.to_vec() });
    let (layout, files) = layout(&images);
    let top = json(&files["index.json"]);
    let [tagged] = top["manifests"].as_array().unwrap().as_slice() else { panic!("{top}") };
    assert_eq!(tagged["digest"], layout.digest.as_str());
    assert_eq!(tagged["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    assert_eq!(tagged["annotations"]["io.containerd.image.name"], "registry.example/tidegate:1.2.3");
    let index = json(blob(&files, tagged));
    let mut seen = 4;
    for (entry, image) in index["manifests"].as_array().unwrap().iter().zip(&images) {
        assert_eq!(entry["platform"]["architecture"], image.architecture);
        let manifest = json(blob(&files, entry));
        let config = json(blob(&files, &manifest["config"]));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&image.layer).as_str());
        assert_eq!(config["architecture"], image.architecture);
        let mut unpacked = Vec::new();
        let mut packed = flate2::read::GzDecoder::new(blob(&files, &manifest["layers"][0]));
        std::io::Read::read_to_end(&mut packed, &mut unpacked).unwrap();
        assert_eq!(unpacked, image.layer);
        seen += 3;
    }
    // The index, and `oci-layout`, `index.json` beside the blobs.
    assert_eq!(files.len(), seen - 1);
}

#[test]
fn the_same_content_makes_the_same_bytes() {
    let image = || [Image { architecture: "amd64", layer: b"layer".to_vec() }];
    let bytes = || tar(&layout(&image()).0.entries, 7).unwrap();
    assert_eq!(bytes(), bytes());
}

#[test]
fn tar_reads_what_is_written() {
    let directory = std::env::temp_dir().join(format!("tidegate-image-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let big = vec![b'x'; 100_000];
    let entries = [
        Entry::directory("a", 0o755),
        Entry::file("a/empty", 0o600, ""),
        Entry::file("a/exact", 0o644, vec![b'y'; 512]),
        Entry::file("a/program", 0o755, big.clone()),
        Entry::directory("tmp", 0o1777),
    ];
    let archive = directory.join("a.tar");
    fs::write(&archive, tar(&entries, 1_000_000_000).unwrap()).unwrap();
    let listed = Command::new("tar").env("TZ", "UTC").arg("-tvf").arg(&archive).output().unwrap();
    assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (line, expected) in listed.lines().zip([
        "drwxr-xr-x root/root         0 2001-09-09 01:46 a/",
        "-rw------- root/root         0 2001-09-09 01:46 a/empty",
        "-rw-r--r-- root/root       512 2001-09-09 01:46 a/exact",
        "-rwxr-xr-x root/root    100000 2001-09-09 01:46 a/program",
        "drwxrwxrwt root/root         0 2001-09-09 01:46 tmp/",
    ]) {
        assert_eq!(line, expected);
    }
    let extract = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&directory).status().unwrap();
    assert!(extract.success());
    assert_eq!(fs::read(directory.join("a/program")).unwrap(), big);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn names_that_a_header_cannot_hold_are_refused() {
    assert!(tar(&[Entry::file(&"x".repeat(100), 0o644, "")], 0).is_ok());
    assert!(tar(&[Entry::file(&"x".repeat(101), 0o644, "")], 0).is_err());
    assert!(tar(&[Entry::directory(&"x".repeat(100), 0o755)], 0).is_err());
    assert!(tar(&[Entry::file("x", 0o644, "")], 1 << 33).is_err());
}

#[test]
fn each_directory_comes_before_what_is_in_it() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = root::entries(&workspace, b"program".to_vec(), b"certificates").unwrap();
    for (at, entry) in entries.iter().enumerate() {
        let Some((parent, _)) = entry.path.rsplit_once('/') else { continue };
        let before = &entries[..at];
        assert!(before.iter().any(|other| other.path == parent && other.content.is_none()), "{}", entry.path);
    }
    let program = entries.iter().find(|entry| entry.path == "usr/bin/tidegate").unwrap();
    assert_eq!((program.mode, program.content.as_deref()), (0o755, Some(&b"program"[..])));
}

#[test]
fn times_are_those_of_the_calendar() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_200, "2024-03-01T00:00:00Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(created(seconds), expected);
    }
}

#[test]
fn architectures_have_the_names_of_container_tools() {
    assert_eq!(architecture("x86_64-unknown-linux-gnu").unwrap(), "amd64");
    assert_eq!(architecture("aarch64-unknown-linux-gnu").unwrap(), "arm64");
    assert!(architecture("riscv64gc-unknown-linux-gnu").is_err());
}
