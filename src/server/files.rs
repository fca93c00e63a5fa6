//! Files that an operator names: read whole, with the line that says what is wrong if that cannot be.
//!
//! They are read at the start, and again between two turns of the loop. Nothing there may wait or grow without end, so a
//! pipe, a device and what is larger than it could ever need to be are refused unread.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use log::warn;

use crate::files;

/// A file, and the flag that names it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) flag: &'static str,
    pub(super) path: PathBuf,
}

/// What is wrong with a file, in one line: the flag that names it, where it is, what to change.
#[derive(Debug)]
pub struct FileFault {
    file: Named,
    what: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.file.flag, self.file.path.display(), self.what)
    }
}

impl std::error::Error for FileFault {}

impl Named {
    pub(super) fn new(flag: &'static str, path: &Path) -> Self {
        Self { flag, path: path.to_owned() }
    }

    pub(super) fn fault(&self, what: impl fmt::Display) -> FileFault {
        FileFault { file: self.clone(), what: what.to_string() }
    }

    /// Says so in the log if everybody on this machine can read or change it: it holds what lets others in.
    pub(super) fn warn_if_exposed(&self) {
        if fs::metadata(&self.path).as_ref().is_ok_and(files::is_open_to_everybody) {
            let path = self.path.display();
            warn!("{} {path} is open to everybody on this machine: chmod o= {path}", self.flag);
        }
    }

    /// All that is in it, if that is at most so much.
    pub(super) fn read(&self, bytes_max: usize) -> Result<Vec<u8>, FileFault> {
        let read = files::read(&self.path, bytes_max);
        let (bytes, _) = read.map_err(|error| self.fault(format_args!("it cannot be read: {error}")))?;
        if bytes.len() > bytes_max {
            return Err(self.fault(format_args!("it has more than {} MiB; is it the right file?", bytes_max >> 20)));
        }
        Ok(bytes)
    }
}
