//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for connections: standard streams, the poll, signals, the log, the reserve, and
/// a few for whatever a library opens for a moment.
pub const RESERVED_DESCRIPTORS: usize = 16;

/// Has the system's table of this process's open files grow to `count` at once.
///
/// Linux doubles it when it is full, and in a process with threads each time waits until all processors have let
/// go of the old one: milliseconds, on a busy machine many of them.
pub fn make_room(count: usize) {
    let Ok(least) = i32::try_from(count.saturating_sub(1)) else { return };
    // A descriptor with this number, or one above it, is had for a moment. Where the limit forbids it nothing grows.
    drop(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), least));
}

/// Raises the limit on open files as far as it goes, and says how far that is.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // macOS says that there is no limit and takes no more than this.
    let most = limit.maximum.unwrap_or(10_240);
    let wanted = Rlimit { current: Some(most), maximum: limit.maximum };
    let granted = if setrlimit(Resource::Nofile, wanted).is_ok() { Some(most) } else { limit.current };
    granted.and_then(|granted| usize::try_from(granted).ok()).unwrap_or(usize::MAX)
}
