//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for connections: standard streams, the poll, signals, the log, the reserve, and
/// a few for whatever a library opens for a moment.
pub const RESERVED_DESCRIPTORS: usize = 16;

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
