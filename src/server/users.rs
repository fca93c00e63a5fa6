//! The users file, from disk to the relay: all at once at the start, and a slice in each turn while the relay runs.
//!
//! A reload is all or nothing: the list that holds is replaced when the new one has been read to its end, and a mistake
//! anywhere in it leaves everything as it was.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::auth::{FILE_BYTES_MAX, FileError, Loader, Progress, Users};
use crate::files;

/// Lines that are read in one turn: a tenth of a millisecond.
const LINES_TURN_MAX: usize = 64;

/// Why a users file cannot be used, in one line.
#[derive(Debug)]
pub struct UsersError {
    path: PathBuf,
    what: String,
}

impl UsersError {
    fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for UsersError {}

/// The users file of a relay.
#[derive(Debug)]
pub(super) struct UsersFile {
    path: PathBuf,
    /// It is being read anew.
    loader: Option<Loader>,
}

impl UsersFile {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), loader: None }
    }

    /// Reads it from beginning to end.
    pub(super) fn read(&self) -> Result<Users, UsersError> {
        match self.open()?.advance(usize::MAX) {
            Progress::Ready(users) => Ok(users),
            Progress::Failed(error) => Err(self.error(&error)),
            Progress::More(_) => Err(UsersError::new(&self.path, "it has no end")),
        }
    }

    /// Begins to read it anew; what was being read is given up, as it is out of date.
    pub(super) fn reload(&mut self) -> Result<(), UsersError> {
        self.loader = None;
        self.loader = Some(self.open()?);
        Ok(())
    }

    /// Whether it is being read.
    pub(super) const fn is_loading(&self) -> bool {
        self.loader.is_some()
    }

    /// Reads some more of it; the users when that was all.
    pub(super) fn read_on(&mut self) -> Option<Result<Users, UsersError>> {
        match self.loader.take()?.advance(LINES_TURN_MAX) {
            Progress::More(loader) => {
                self.loader = Some(loader);
                None
            }
            Progress::Ready(users) => Some(Ok(users)),
            Progress::Failed(error) => Some(Err(self.error(&error))),
        }
    }

    fn open(&self) -> Result<Loader, UsersError> {
        let read = files::read(&self.path, FILE_BYTES_MAX);
        let (bytes, _) = read.map_err(|error| UsersError::new(&self.path, format!("it cannot be read: {error}")))?;
        Loader::from_bytes(bytes).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &FileError) -> UsersError {
        UsersError::new(&self.path, error)
    }
}
