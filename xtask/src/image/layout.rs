//! An image as the OCI image specification lays it out in files.

use super::archive::Entry;
use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, io::Write as _};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What one architecture has.
pub(super) struct Image {
    /// As container tools call it.
    pub(super) architecture: &'static str,
    /// The root directory, as a tar archive.
    pub(super) layer: Vec<u8>,
}

/// The files.
pub(super) struct Layout {
    pub(super) entries: Vec<Entry>,
    /// By which the image is pinned, whatever the architecture.
    pub(super) digest: String,
}

impl Layout {
    /// Lays out the images of all architectures under one name, such as `tidegate:0.1.0`.
    pub(super) fn of(images: &[Image], name: &str, seconds: u64) -> Result<Self> {
        let mut blobs = Blobs::default();
        let mut manifests = Vec::new();
        for image in images {
            let platform = json!({ "architecture": image.architecture, "os": "linux" });
            manifests.push(with("platform", platform, manifest(image, seconds, &mut blobs)?)?);
        }
        let annotations = annotations(seconds);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations });
        let descriptor = blobs.json(INDEX, &index)?;
        let digest = descriptor.get("digest").and_then(Value::as_str);
        let digest = digest.context("a descriptor without a digest")?.to_owned();
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        // The whole name is for containerd, the tag for all others.
        let names = json!({
            "io.containerd.image.name": whole(name),
            "org.opencontainers.image.ref.name": tag,
        });
        let tagged = with("annotations", names, descriptor)?;
        let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [tagged] });
        let mut entries = vec![Entry::directory("blobs", 0o755), Entry::directory("blobs/sha256", 0o755)];
        entries.append(&mut blobs.entries);
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        entries.push(Entry::file("index.json", 0o644, serde_json::to_vec(&top)?));
        entries.push(Entry::file("oci-layout", 0o644, "{\"imageLayoutVersion\":\"1.0.0\"}"));
        Ok(Self { entries, digest })
    }
}

/// The object with one key more.
fn with(key: &str, value: Value, mut object: Value) -> Result<Value> {
    let keys = object.as_object_mut().context("a descriptor that is no object")?;
    keys.insert(key.to_owned(), value);
    Ok(object)
}

/// As containerd names what has no registry in its name.
fn whole(name: &str) -> String {
    let registry = name.split('/').next().unwrap_or_default();
    match name.contains('/') {
        true if registry.contains(['.', ':']) || registry == "localhost" => name.to_owned(),
        true => format!("docker.io/{name}"),
        false => format!("docker.io/library/{name}"),
    }
}

fn manifest(image: &Image, seconds: u64, blobs: &mut Blobs) -> Result<Value> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&image.layer)?;
    let layer = blobs.add(LAYER, packed.finish()?);
    let labels = annotations(seconds);
    let config = json!({
        "architecture": image.architecture,
        "os": "linux",
        "created": created(seconds),
        "config": {
            "Entrypoint": ["/usr/bin/tidegate"],
            "Cmd": ["--help"],
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&image.layer)] },
        "history": [{ "created": created(seconds), "created_by": "cargo xtask image" }],
    });
    let config = blobs.json(CONFIG, &config)?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    blobs.json(MANIFEST, &manifest)
}

fn annotations(seconds: u64) -> Value {
    json!({
        "org.opencontainers.image.title": "tidegate",
        "org.opencontainers.image.description": "Gives each pod of a node exactly the DigitalOcean access it was granted",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        "org.opencontainers.image.source": "https://github.com/tidegate/tidegate",
        "org.opencontainers.image.created": created(seconds),
    })
}

#[derive(Default)]
struct Blobs {
    entries: Vec<Entry>,
}

impl Blobs {
    /// Adds a blob, and answers its descriptor.
    fn add(&mut self, kind: &str, content: Vec<u8>) -> Value {
        let (digest, size) = (digest(&content), content.len());
        let path = format!("blobs/{}", digest.replace(':', "/"));
        // What two architectures share is there once.
        if self.entries.iter().all(|entry| entry.path != path) {
            self.entries.push(Entry::file(&path, 0o644, content));
        }
        json!({ "mediaType": kind, "digest": digest, "size": size })
    }

    fn json(&mut self, kind: &str, content: &Value) -> Result<Value> {
        Ok(self.add(kind, serde_json::to_vec(content)?))
    }
}

pub(super) fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The time as RFC 3339 writes it. The months are counted from March, so that a leap day is the year's last.
pub(super) fn created(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
