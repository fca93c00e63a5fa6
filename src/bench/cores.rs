//! Which core the server runs on and which the load: two that share nothing that can be helped.
//!
//! A child inherits the cores of the thread that starts it, so this thread goes to the server's core for as
//! long as it takes to start one, and to its own afterwards. Threads that were there before stay as they were.
//! Linux only: elsewhere, and with a single core, nothing is pinned.

use std::io;
use std::process::{Child, Command};

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two cores, one for the server and one for the load. When it is dropped, this thread may run everywhere
/// again where it could before.
#[derive(Debug)]
pub struct Cores {
    /// Where a server is started.
    pub server: usize,
    /// Where this thread runs.
    pub load: usize,
    #[cfg(target_os = "linux")]
    before: CpuSet,
}

#[cfg(target_os = "linux")]
impl Cores {
    /// Chooses among the cores that this thread may run on, and pins it to the one for the load. `None` if
    /// there are not two, or the system refuses.
    #[must_use]
    pub fn split() -> Option<Self> {
        let before = sched_getaffinity(None).ok()?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core));
        // The last one is the server's: the system's own work is mostly done on the first.
        let server = allowed.next_back()?;
        let load = allowed.max_by_key(|core| distance(server, *core))?;
        pin(load).ok()?;
        Some(Self { server, load, before })
    }

    /// Starts a process on the server's core.
    ///
    /// # Errors
    /// The system grants no process.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        pin(self.server)?;
        let child = command.spawn();
        pin(self.load)?;
        child
    }
}

#[cfg(target_os = "linux")]
fn pin(core: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(core);
    Ok(sched_setaffinity(None, &only)?)
}

#[cfg(target_os = "linux")]
impl Drop for Cores {
    fn drop(&mut self) {
        // What was allowed before may have been taken away meanwhile: then this thread stays where it is.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// How well a core suits the load: another core than the server's rather than the other half of the same one,
/// and of the same processor rather than of another.
#[cfg(target_os = "linux")]
fn distance(server: usize, core: usize) -> u8 {
    let read = |core: usize, what: &str| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{core}/topology/{what}")).ok()
    };
    let same = |what| read(server, what) == read(core, what);
    match (same("physical_package_id"), same("core_id")) {
        (true, false) => 2,
        (false, _) => 1,
        (true, true) => 0,
    }
}

#[cfg(not(target_os = "linux"))]
impl Cores {
    /// Pinning is for Linux: `None`.
    #[must_use]
    pub const fn split() -> Option<Self> {
        None
    }

    /// Starts a process.
    ///
    /// # Errors
    /// The system grants no process.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }
}
