//! What the client reads frames from and writes them to: a stream as it is, or with TLS around it.
//!
//! It never blocks but in [`Socket::wait`] and [`Socket::write_all`], and goes through a shared reference like the
//! stream beneath it: one thread may read while another writes. Knows nothing of frames.

use std::io::{self, ErrorKind, IoSlice};
use std::time::Duration;

use super::stream::{Ready, Stream};
use super::tls::Channel;

/// A connected stream, after its TLS handshake where it has one.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    channel: Option<Channel>,
}

impl Socket {
    pub(super) const fn new(stream: Stream, channel: Option<Channel>) -> Self {
        Self { stream, channel }
    }

    /// Nobody on another machine can read what is sent but the relay.
    pub(super) fn is_private(&self) -> bool {
        self.channel.is_some() || self.stream.is_local()
    }

    /// What an authentication over TLS binds itself to (RFC 9266); nothing without TLS.
    pub(super) fn channel_binding(&self) -> Option<[u8; 32]> {
        self.channel.as_ref().and_then(Channel::binding)
    }

    /// Reads what is there; `Ok(0)` at the end of the stream, `WouldBlock` when nothing is there.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.channel {
            Some(channel) => channel.read(&self.stream, buffer),
            None => self.stream.read(buffer),
        }
    }

    /// Takes what there is room for; `WouldBlock` when there is none. Over TLS some of what was taken may still be
    /// unwritten, see [`Socket::is_unwritten`].
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.channel {
            Some(channel) => channel.write(&self.stream, slices),
            None => self.stream.write(slices),
        }
    }

    /// Writes everything, waiting for room as often as it takes.
    pub(super) fn write_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.write(slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(false, true, None)?;
                }
                Err(error) => return Err(error),
            }
        }
        while !self.flush()? {
            self.wait(false, true, None)?;
        }
        Ok(())
    }

    /// Writes what was taken and not yet written, as far as there is room; whether that was all.
    pub(super) fn flush(&self) -> io::Result<bool> {
        self.channel.as_ref().map_or(Ok(true), |channel| channel.flush(&self.stream))
    }

    /// Something was taken and is not yet written: room is worth waiting for.
    pub(super) fn is_unwritten(&self) -> bool {
        self.channel.as_ref().is_some_and(Channel::is_unwritten)
    }

    /// Waits until there is something to read, where that is wanted, or room to write, or `timeout` is over
    /// (`None`: as long as it takes). An error or the end of the stream counts as readable and writable.
    pub(super) fn wait(&self, reading: bool, writing: bool, timeout: Option<Duration>) -> io::Result<Ready> {
        // What has come in with an earlier record is no longer in the socket, and no poll would tell of it.
        if reading && self.channel.as_ref().is_some_and(Channel::has_leftover) {
            let writable = writing && self.stream.wait(false, true, Some(Duration::ZERO))?.writable;
            return Ok(Ready { readable: true, writable });
        }
        self.stream.wait(reading, writing, timeout)
    }

    /// Ends the connection in both directions; whoever waits on it wakes up. Over TLS the relay is told.
    pub(super) fn shutdown(&self) {
        if let Some(channel) = &self.channel {
            channel.say_end(&self.stream);
        }
        self.stream.shutdown();
    }
}

/// A connection that nobody has ended goes away with a word as well.
impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            channel.say_end(&self.stream);
        }
    }
}
