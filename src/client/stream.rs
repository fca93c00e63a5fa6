//! A stream to the relay as the system has it, over TCP or a Unix socket, that never blocks but in [`Stream::wait`].
//!
//! Reading, writing and waiting go through a shared reference: one thread may wait for bytes to arrive
//! while another waits for room to send. Knows neither frames nor TLS.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Address;

/// A connected stream in non-blocking mode.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a wait ended with; neither is set when its time was over, or a signal came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) readable: bool,
    pub(super) writable: bool,
}

impl Stream {
    /// Connects, trying each address that the host's name stands for until `deadline`.
    pub(super) fn connect(address: &Address, deadline: Instant) -> io::Result<Self> {
        let stream = match address {
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Address::Tcp { host, port } | Address::Tls { host, port } => Self::Tcp(connect_tcp(host, *port, deadline)?),
        };
        match &stream {
            Self::Tcp(tcp) => {
                // Frames are written whole, so there is nothing for the kernel to gather.
                tcp.set_nodelay(true)?;
                tcp.set_nonblocking(true)?;
            }
            Self::Unix(unix) => unix.set_nonblocking(true)?,
        }
        Ok(stream)
    }

    /// What is sent does not leave this machine.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()),
            Self::Unix(_) => true,
        }
    }

    /// Reads what is there; `Ok(0)` at the end of the stream, `WouldBlock` when nothing is there.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
        })
    }

    /// Writes what there is room for; `WouldBlock` when there is none.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| match self {
            Self::Tcp(stream) => (&*stream).write_vectored(slices),
            Self::Unix(stream) => (&*stream).write_vectored(slices),
        })
    }

    /// Waits until there is something to read, where that is wanted, or room to write, or `timeout` is over
    /// (`None`: as long as it takes). An error or the end of the stream counts as readable and writable.
    pub(super) fn wait(&self, reading: bool, writing: bool, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, reading);
        wanted.set(PollFlags::OUT, writing);
        // A time too long for the system's type is as good as no limit.
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), wanted)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let seen = fds[0].revents();
        let ended = seen.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        Ok(Ready { readable: ended || seen.contains(PollFlags::IN), writable: ended || seen.contains(PollFlags::OUT) })
    }

    /// Ends the connection in both directions; whoever waits on it wakes up.
    pub(super) fn shutdown(&self) {
        // The only error is that the connection has ended already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Repeats a call that a signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
