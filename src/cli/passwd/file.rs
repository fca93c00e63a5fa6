//! The users file on the disk: read whole, and replaced whole, so that a relay that reads it never sees half of it.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::auth::{FILE_BYTES_MAX, Users, text_of};
use crate::cli::{Trouble, output};
use crate::files;

/// Who may read a new file: it holds what passwords can be tried out on.
const MODE: u32 = 0o600;
/// The bits that say what the group may do.
const MODE_OF_GROUP: u32 = 0o070;

/// A users file, and the right to replace it for as long as this lives.
pub(super) struct UsersFile {
    /// As it was given, for what is told.
    given: PathBuf,
    /// Where it really is: a link to it stays one.
    path: PathBuf,
    text: String,
    /// What the system knows of it; nothing if it is new.
    old: Option<Metadata>,
    /// The folder, locked: whoever else changes a users file here waits.
    _lock: Option<File>,
}

impl UsersFile {
    /// Opens a file; one that is not there is new and empty.
    pub(super) fn open(given: &Path) -> Result<Self, Trouble> {
        let cannot = |error: io::Error| Trouble::System(format!("cannot read {}: {error}", given.display()));
        let lock = lock(folder_of(&fs::canonicalize(given).unwrap_or_else(|_| given.to_owned())));
        let path = match fs::canonicalize(given) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(given).is_err() => {
                if given.file_name().is_none() {
                    return Err(cannot(error));
                }
                return Ok(Self {
                    given: given.into(),
                    path: given.into(),
                    text: String::new(),
                    old: None,
                    _lock: lock,
                });
            }
            Err(error) => return Err(cannot(error)),
        };
        let (bytes, metadata) = files::read(&path, FILE_BYTES_MAX).map_err(cannot)?;
        let text = text_of(bytes).map_err(|error| Trouble::System(format!("{}: {error}", given.display())))?;
        Ok(Self { given: given.into(), path, text, old: Some(metadata), _lock: lock })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is no file yet.
    pub(super) const fn is_new(&self) -> bool {
        self.old.is_none()
    }

    /// Says on standard error if everybody can read it.
    pub(super) fn warn_of_readers(&self) {
        if self.old.as_ref().is_some_and(files::is_open_to_everybody) {
            let path = self.given.display();
            output::complain(&format!("switchboard: {path} is open to everybody on this machine: chmod o= {path}"));
        }
    }

    /// What is wrong with it as it is, if anything that a change would not mend.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        // The line may be missing: it will be written.
        let secret = format!("{}\n%secret AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", self.text);
        match (Users::parse(self.text()), Users::parse(secret)) {
            (Err(error), Err(_)) => Err(Trouble::System(format!("{}: {error}", self.given.display()))),
            _ => Ok(()),
        }
    }

    /// Puts a file with this text in its place, with its mode and its owner as far as that may be done.
    pub(super) fn replace(&self, text: &str) -> Result<(), Trouble> {
        self.warn_of_readers();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let folder = folder_of(&self.path);
        let beside = folder.join(format!(".{name}.{:x}", fastrand::u64(..)));
        // Who does not know the lock, an editor say, may have changed it meanwhile.
        let unless_changed = || match (fs::metadata(&self.path), &self.old) {
            (Ok(now), Some(old)) if is_same(&now, old) => Ok(()),
            (Err(error), None) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => Err(io::Error::other("somebody else has changed it meanwhile: do it again")),
        };
        let written = self.write(&beside, text).and_then(|()| unless_changed());
        let written = written.and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = written {
            let _ = fs::remove_file(&beside);
            return Err(Trouble::System(format!("cannot write {}: {error}", self.given.display())));
        }
        // So that the name outlives a loss of power, too; not every file system can.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }

    fn write(&self, beside: &Path, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(beside)?;
        file.write_all(text.as_bytes())?;
        let mode = self.old.as_ref().map_or(MODE, |old| self.keep_owner(&file, old));
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    /// Gives the new file to the owner of the old one, and says which mode it may have then: another group than before
    /// must not get what the old one was allowed.
    fn keep_owner(&self, file: &File, old: &Metadata) -> u32 {
        let mode = old.mode() & 0o777;
        let is_same = |new: Metadata| (new.uid(), new.gid()) == (old.uid(), old.gid());
        if file.metadata().is_ok_and(is_same) || fchown(file, Some(old.uid()), Some(old.gid())).is_ok() {
            return mode;
        }
        let path = self.given.display();
        output::complain(&format!(
            "switchboard: {path} now belongs to who has changed it: see that the relay can read it"
        ));
        if fchown(file, None, Some(old.gid())).is_ok() { mode } else { mode & !MODE_OF_GROUP }
    }
}

/// Whether nobody has written to a file in between.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let facts = |of: &Metadata| (of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec());
    facts(one) == facts(other)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Waits until nobody else changes a users file in this folder. Where that cannot be had, it is done without.
fn lock(folder: &Path) -> Option<File> {
    let folder = File::open(folder).ok()?;
    folder.lock().ok()?;
    Some(folder)
}
