//! The daemon's directories and files.

use super::super::Error;
use crate::whole_file;
use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// Makes a directory, with this mode in any case.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), Error> {
    let made = DirBuilder::new().mode(mode).recursive(true).create(path);
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode))).map_err(failed("make", path))
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    whole_file::put(path, content, mode).map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}
