//! The users file, from disk to the relay: all at once at the start, and a slice in each turn while the relay runs.
//!
//! A reload is all or nothing: the list that holds is replaced when the new one has been read to its end, and a mistake
//! anywhere in it leaves everything as it was.

use std::path::Path;

use log::warn;

use super::TlsKeys;
use super::files::{FileFault, Named};
use crate::auth::{FILE_BYTES_MAX, FileError, Loader, NOBODY_IS_IN_IT, Progress, Users};

/// Lines that are read in one turn: a tenth of a millisecond.
const LINES_TURN_MAX: usize = 64;

/// The users file of a relay.
#[derive(Debug)]
pub(super) struct UsersFile {
    file: Named,
    /// It is being read anew.
    loader: Option<Loader>,
}

impl UsersFile {
    pub(super) fn at(path: &Path) -> Self {
        Self { file: Named::new("--users", path), loader: None }
    }

    /// Reads it from beginning to end.
    pub(super) fn read(&self) -> Result<Users, FileFault> {
        match self.open()?.advance(usize::MAX) {
            Progress::Ready(users) => self.some(users),
            Progress::Failed(error) => Err(self.error(&error)),
            Progress::More(_) => Err(self.file.fault("it has no end")),
        }
    }

    /// Says in the log what an operator should know of a list that is used all the same: others can read it, and try out
    /// passwords on it, or somebody in it has no way in.
    pub(super) fn warn(&self, list: &Users, keys: Option<&TlsKeys>) {
        self.file.warn_if_exposed();
        if list.has_certificates() && !keys.is_some_and(TlsKeys::asks_clients) {
            let (flag, path) = (self.file.flag, self.file.path.display());
            warn!("{flag} {path}: nobody can come in by a certificate: add a tls:// listener and --tls-client-ca");
        }
    }

    /// Begins to read it anew; what was being read is given up, as it is out of date.
    pub(super) fn reload(&mut self) -> Result<(), FileFault> {
        self.loader = None;
        self.loader = Some(self.open()?);
        Ok(())
    }

    /// Whether it is being read.
    pub(super) const fn is_loading(&self) -> bool {
        self.loader.is_some()
    }

    /// Reads some more of it; the users when that was all.
    pub(super) fn read_on(&mut self) -> Option<Result<Users, FileFault>> {
        match self.loader.take()?.advance(LINES_TURN_MAX) {
            Progress::More(loader) => {
                self.loader = Some(loader);
                None
            }
            Progress::Ready(users) => Some(self.some(users)),
            Progress::Failed(error) => Some(Err(self.error(&error))),
        }
    }

    /// A list with nobody in it is what is left while a file is being written, or when that has failed.
    fn some(&self, users: Users) -> Result<Users, FileFault> {
        if users.is_empty() {
            return Err(self.file.fault(NOBODY_IS_IN_IT));
        }
        Ok(users)
    }

    fn open(&self) -> Result<Loader, FileFault> {
        Loader::from_bytes(self.file.read(FILE_BYTES_MAX)?).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &FileError) -> FileFault {
        self.file.fault(error)
    }
}
