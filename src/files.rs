//! An operator's files, read on the loop: never a pipe that nobody writes to, and never more than there may be.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Whether users of the machine who are neither the file's owner nor in its group can do anything with it.
pub(crate) fn is_open_to_everybody(metadata: &Metadata) -> bool {
    metadata.mode() & 0o007 != 0
}

/// Reads a whole file, which must be one: a link to one will do, and at most `bytes_max` of it are read, and one more byte,
/// by which the caller knows that it is too long.
///
/// # Errors
/// The system's, or that it is no file.
pub(crate) fn read(path: &Path, bytes_max: usize) -> io::Result<(Vec<u8>, Metadata)> {
    // Whoever opens a pipe otherwise waits until somebody writes.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder; name the file in it"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file but a pipe or a device, and has to be read again"));
    }
    let mut bytes = Vec::new();
    File::take(file, bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}
