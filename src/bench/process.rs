//! What a process costs, from the system's own books: CPU time, resident memory, open files.
//!
//! Linux only: elsewhere no process is found, and the figures are absent. They are those of a server whose
//! threads live as long as it does; the CPU time of a thread that has ended is not in the sum.

use std::net::IpAddr;
use std::time::Duration;

use crate::reactor::Endpoint;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, in the system and outside.
    pub cpu: Duration,
    /// Resident memory, in bytes, shared pages included.
    pub resident_bytes: u64,
}

/// A process that may be looked at.
#[derive(Debug)]
pub struct Process {
    #[cfg(target_os = "linux")]
    inner: procfs::process::Process,
    /// How long a tick is, where the system does not count nanoseconds.
    #[cfg(target_os = "linux")]
    tick: Option<Duration>,
}

/// Descriptors below this are looked at first: a server listens before it has clients.
#[cfg(target_os = "linux")]
const EARLY_DESCRIPTORS: i32 = 64;

#[cfg(target_os = "linux")]
impl Process {
    /// The process with this number; `None` if there is none, or its figures are not for us.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let inner = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
        // A system without these books says zero of everybody, or nothing at all; this process has run for a while.
        let itself = procfs::process::Process::myself().ok()?;
        let tick = match nanoseconds(&itself) {
            Some(cpu) if !cpu.is_zero() => None,
            _ => Some(Duration::from_secs(1) / u32::try_from(procfs::ticks_per_second()).ok()?),
        };
        let process = Self { inner, tick };
        process.cpu().map(|_| process)
    }

    /// The process that listens at an endpoint of this machine. `None` if that is another machine's, if the
    /// process may not be looked at, or if there are several, of which one would be no measure.
    #[must_use]
    pub fn listening_at(endpoint: &Endpoint) -> Option<Self> {
        match endpoint {
            Endpoint::Tcp(address) if is_of_this_machine(address.ip()) => {
                let mut owners = listening_inodes(*address).into_iter().map(owner_of);
                let pid = owners.next()??;
                if owners.all(|other| other == Some(pid)) { Self::of(pid) } else { None }
            }
            Endpoint::Tcp(_) => None,
            Endpoint::Unix(path) => {
                // The other end of a connection is, to the system, the process that began to listen.
                let stream = std::os::unix::net::UnixStream::connect(path).ok()?;
                let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
                Self::of(u32::try_from(peer.pid.as_raw_nonzero().get()).ok()?)
            }
        }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.pid().unsigned_abs()
    }

    /// Whether it still runs; one that has ended and is not yet waited for does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.inner.is_alive()
    }

    /// CPU time so far, of all threads. The system brings it up to date when a thread stops and at each
    /// of its clock's ticks, which are 1 to 10 ms apart.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        let Some(tick) = self.tick else { return nanoseconds(&self.inner) };
        let stat = self.inner.stat().ok()?;
        Some(tick * u32::try_from(stat.utime + stat.stime).ok()?)
    }

    /// CPU time and resident memory. The latter is counted page by page: a millisecond or two for each
    /// gigabyte, in which the process cannot be given other memory.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        Some(Usage { cpu: self.cpu()?, resident_bytes: self.resident_bytes()? })
    }

    /// How many files it has open: one call on Linux 6.2, a walk over all of them before.
    #[must_use]
    pub fn descriptors(&self) -> Option<u64> {
        self.inner.fd_count().ok().map(|count| count as u64)
    }

    fn resident_bytes(&self) -> Option<u64> {
        let counted = || {
            let rollup = self.inner.smaps_rollup().ok()?.memory_map_rollup;
            rollup.iter().find_map(|map| map.extension.map.get("Rss").copied())
        };
        // Not everybody may see the first; the second is kept for each core apart and can be behind a little.
        counted().or_else(|| Some(self.inner.statm().ok()?.resident * procfs::page_size()))
    }
}

/// The CPU time of all threads, where the system counts it to the nanosecond.
#[cfg(target_os = "linux")]
fn nanoseconds(process: &procfs::process::Process) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for task in process.tasks().ok()?.flatten() {
        // A thread that has ended meanwhile is not there any more.
        if let Ok(books) = task.schedstat() {
            sum += Duration::from_nanos(books.sum_exec_runtime);
        }
    }
    Some(sum)
}

#[cfg(target_os = "linux")]
fn is_of_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || if_addrs::get_if_addrs().is_ok_and(|all| all.iter().any(|one| one.ip() == ip))
}

/// The sockets that a connection to `address` can end up at: those that listen at this very address, or else
/// those that listen at every address.
#[cfg(target_os = "linux")]
fn listening_inodes(address: std::net::SocketAddr) -> Vec<u64> {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use procfs::net::{TcpState, tcp, tcp6};

    let mut listening = tcp().unwrap_or_default();
    listening.extend(tcp6().unwrap_or_default());
    listening.retain(|entry| entry.state == TcpState::Listen && entry.local_address.port() == address.port());
    let wildcards = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let ip = address.ip().to_canonical();
    let places = if ip.is_ipv4() { [ip, wildcards[0], wildcards[1]] } else { [ip, wildcards[1], wildcards[1]] };
    let at = |place: IpAddr| {
        let here = listening.iter().filter(move |entry| entry.local_address.ip().to_canonical() == place);
        here.map(|entry| entry.inode).collect::<Vec<_>>()
    };
    places.into_iter().map(at).find(|inodes| !inodes.is_empty()).unwrap_or_default()
}

/// The first process that has this socket open. Looks at the early descriptors of all before it looks at all
/// descriptors of any: there may be tens of thousands, and each is a few calls.
#[cfg(target_os = "linux")]
fn owner_of(inode: u64) -> Option<u32> {
    use procfs::process::{FDInfo, FDTarget, Process, all_processes};

    let is_it = |info: FDInfo| info.target == FDTarget::Socket(inode);
    let has_early = |process: &Process| {
        let Ok(all) = process.fd() else { return false };
        // The system lists them in the order of their numbers.
        all.flatten().take_while(|info| info.fd < EARLY_DESCRIPTORS).any(is_it)
    };
    let has = |process: &Process| process.fd().is_ok_and(|all| all.flatten().any(is_it));
    let early = all_processes().ok()?.flatten().find(has_early);
    let found = early.or_else(|| all_processes().ok()?.flatten().find(has));
    found.map(|process| process.pid().unsigned_abs())
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unused_self, clippy::missing_const_for_fn, reason = "on Linux they do something")]
impl Process {
    /// `None`: the figures are Linux's.
    #[must_use]
    pub fn of(_pid: u32) -> Option<Self> {
        None
    }

    /// `None`: the figures are Linux's.
    #[must_use]
    pub fn listening_at(_endpoint: &Endpoint) -> Option<Self> {
        None
    }

    /// Nobody.
    #[must_use]
    pub fn pid(&self) -> u32 {
        0
    }

    /// It is not known.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        true
    }

    /// Absent.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        None
    }

    /// Absent.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        None
    }

    /// Absent.
    #[must_use]
    pub fn descriptors(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn ticks_and_nanoseconds_tell_the_same() {
        use std::process::{Child, Command};

        /// Works until the test is over, however that ends.
        struct Busy(Child);

        impl Drop for Busy {
            fn drop(&mut self) {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }

        let child = Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell"));
        let mut process = Process::of(child.0.id()).expect("its figures can be read");
        if process.tick.is_some() {
            // This system counts no nanoseconds.
            return;
        }
        let tick = Duration::from_secs(1) / u32::try_from(procfs::ticks_per_second()).expect("a small number");
        while nanoseconds(&process.inner).expect("it runs") < 20 * tick {
            std::thread::yield_now();
        }
        let before = nanoseconds(&process.inner).expect("it runs");
        process.tick = Some(tick);
        let ticks = process.cpu().expect("it runs");
        let after = nanoseconds(&process.inner).expect("it runs");
        assert!(ticks + 3 * tick >= before && ticks <= after + 3 * tick, "{before:?} {ticks:?} {after:?}");
    }

    #[test]
    fn nobody_has_no_figures() {
        assert!(Process::of(u32::MAX).is_none());
        assert!(Process::of(0).is_none());
    }
}
