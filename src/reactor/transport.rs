//! What a connection reads from and writes to: a socket, or whatever a simulation puts in its place.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::Source;
use mio::{Interest, Registry, Token};
#[cfg(target_os = "linux")]
use rustix::net::{RecvFlags, recv};

/// A non-blocking stream of bytes in both directions.
///
/// The contract is that of a socket under edge-triggered polling: after `WouldBlock`, or a read that did
/// not fill its buffer, the next change of state is announced once; before that, none need be.
pub trait Transport {
    /// Reads into `buffers` in their order; 0 means that the peer will send no more.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Reads at most as much as `scratch` holds, of which nobody wants to know: what lies in `scratch` afterwards is
    /// undefined.
    ///
    /// # Errors
    /// As [`Transport::read_vectored`].
    fn discard(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(scratch)])
    }

    /// Writes from `buffers` in their order and says how many bytes were taken.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is taken; anything else ends the connection.
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// The peer is gone already.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// A connected socket of the system.
#[derive(Debug)]
pub enum Stream {
    /// Over IPv4 or IPv6.
    Tcp(mio::net::TcpStream),
    /// On this machine.
    Unix(mio::net::UnixStream),
}

impl Transport for Stream {
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // A single buffer takes the plain call, which is cheaper in the kernel.
        match (self, buffers) {
            (Self::Tcp(stream), [buffer]) => stream.read(buffer),
            (Self::Tcp(stream), buffers) => stream.read_vectored(buffers),
            (Self::Unix(stream), [buffer]) => stream.read(buffer),
            (Self::Unix(stream), buffers) => stream.read_vectored(buffers),
        }
    }

    /// On Linux a TCP socket throws away what it has without copying it (tcp(7), `MSG_TRUNC`).
    #[cfg(target_os = "linux")]
    fn discard(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Ok(recv(stream, scratch, RecvFlags::TRUNC)?.1),
            Self::Unix(stream) => stream.read(scratch),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, buffers) {
            (Self::Tcp(stream), [buffer]) => stream.write(buffer),
            (Self::Tcp(stream), buffers) => stream.write_vectored(buffers),
            (Self::Unix(stream), [buffer]) => stream.write(buffer),
            (Self::Unix(stream), buffers) => stream.write_vectored(buffers),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        }
    }
}
