//! The receiving half of a connection: frames to events, PINGs answered, the relay's life watched.
//!
//! What it does not do: it never waits for room to send, see [`outbox`](super::outbox).

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::event::{Closed, Event, Failure};
use super::inbox::Inbox;
use super::sender::{Sender, Session, Shared};
use super::tls::Fault;
use crate::wire::control::{Body, Ping, Pong};
use crate::wire::{Header, Id, Type};

/// The correlation of the PINGs by which the receiver watches the relay; senders never draw it.
const KEEPALIVE_CORRELATION: u32 = 0;

/// How long the relay may take to end the connection after its last word.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(10);

/// The receiving half of a connection. Dropping it leaves the connection to its senders.
#[derive(Debug)]
pub struct Receiver {
    pub(super) shared: Arc<Shared>,
    inbox: Inbox,
    /// When the relay was last heard.
    heard: Instant,
    /// When it was asked for a sign of life that has not come yet.
    asked: Option<Instant>,
    /// The closing ERROR or the GOODBYE: why the connection is about to end.
    last_word: Option<(Failure, Instant)>,
    closed: Option<Closed>,
    /// Events that were put back by whoever waited for another one.
    put_back: VecDeque<Event>,
}

impl Receiver {
    pub(super) fn new(shared: Arc<Shared>, inbox: Inbox) -> Self {
        Self {
            shared,
            inbox,
            heard: Instant::now(),
            asked: None,
            last_word: None,
            closed: None,
            put_back: VecDeque::new(),
        }
    }

    /// What the relay said in its WELCOME.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.shared.session
    }

    /// Another sending half.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender { shared: Arc::clone(&self.shared) }
    }

    /// Waits for the next event, as long as it takes. After [`Event::Closed`] it only ever returns that.
    pub fn recv(&mut self) -> Event {
        loop {
            if let Some(event) = self.recv_until(None) {
                return event;
            }
        }
    }

    /// Waits for the next event for at most `timeout`; zero looks without waiting.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Event> {
        // A time that the clock cannot hold is as good as no limit.
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Puts events back in front of what comes next, first in first out: for a caller that waited for one
    /// answer and met others on the way.
    pub fn put_back(&mut self, events: impl DoubleEndedIterator<Item = Event>) {
        for event in events.rev() {
            self.put_back.push_front(event);
        }
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Option<Event> {
        if let Some(event) = self.put_back.pop_front() {
            return Some(event);
        }
        let mut looked = false;
        loop {
            if let Some(closed) = &self.closed {
                return Some(Event::Closed(closed.clone()));
            }
            match self.next_event() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(closed) => {
                    self.end(closed);
                    continue;
                }
            }
            let now = Instant::now();
            if looked && deadline.is_some_and(|deadline| deadline <= now) {
                return None;
            }
            // The first look costs no time and comes before any verdict: while nobody called, bytes may have
            // arrived that nobody has looked at.
            let step = if looked { self.watch_relay(now, deadline) } else { Ok(Some(Duration::ZERO)) };
            looked = true;
            if let Err(closed) = step.and_then(|timeout| self.wait_and_read(timeout)) {
                self.end(closed);
            }
        }
    }

    /// The next event that lies in the inbox.
    fn next_event(&mut self) -> Result<Option<Event>, Closed> {
        let limit = self.shared.session.payload_bytes_max;
        loop {
            let Some((header, payload)) = self.inbox.frame(limit).map_err(Closed::BadFrame)? else {
                return Ok(None);
            };
            if header.frame_type() == Some(Type::Ping) {
                self.answer(&header, &payload);
                continue;
            }
            let event = Event::read(header, payload, self.shared.clock_us(), self.shared.session.epoch_us)?;
            match &event {
                Some(Event::Goodbye(failure)) => self.last_word = Some((failure.clone(), Instant::now())),
                Some(Event::Error(failure)) if failure.closes() => {
                    self.last_word = Some((failure.clone(), Instant::now()));
                }
                Some(Event::Pong(pong)) if pong.from == Id::RELAY && pong.correlation == KEEPALIVE_CORRELATION => {
                    continue;
                }
                _ => {}
            }
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Owes the PONG to a PING of the relay or of a peer.
    fn answer(&self, header: &Header, payload: &Bytes) {
        let ping_clock_us = Ping::parse(payload).ok().and_then(|ping| ping.clock_us);
        let pong = Pong { ping_clock_us, clock_us: Some(self.shared.clock_us()) };
        let mut frame = Vec::new();
        pong.write_frame(Header::new(Type::Pong).to(header.source).correlating(header.correlation), &mut frame);
        self.owe(&frame);
    }

    /// How long to wait at most; asks the relay for a sign of life when it is due, and gives it up when none came.
    fn watch_relay(&mut self, now: Instant, deadline: Option<Instant>) -> Result<Option<Duration>, Closed> {
        let left = |end: Instant| end.saturating_duration_since(now);
        if let Some((_, said)) = &self.last_word {
            let end = *said + LAST_WORD_TIMEOUT;
            return if end <= now { Err(Closed::Ended) } else { Ok(Some(left(deadline.map_or(end, |d| d.min(end))))) };
        }
        let keepalive = self.shared.session.keepalive;
        if keepalive.is_zero() {
            return Ok(deadline.map(left));
        }
        let due = match self.asked {
            Some(asked) if now.duration_since(asked) >= keepalive => {
                return Err(Closed::Silent { silence: now.duration_since(self.heard) });
            }
            Some(asked) => asked + keepalive,
            None if now.duration_since(self.heard) >= keepalive => {
                self.asked = Some(now);
                let mut frame = Vec::new();
                let header = Header::new(Type::Ping).correlating(KEEPALIVE_CORRELATION);
                Ping { clock_us: Some(self.shared.clock_us()) }.write_frame(header, &mut frame);
                self.owe(&frame);
                now + keepalive
            }
            None => self.heard + keepalive,
        };
        Ok(Some(left(deadline.map_or(due, |deadline| deadline.min(due)))))
    }

    fn wait_and_read(&mut self, timeout: Option<Duration>) -> Result<(), Closed> {
        let shared = &*self.shared;
        let ready =
            shared.socket.wait(true, shared.outbox.owes(&shared.socket), timeout).map_err(|e| Closed::broken(&e))?;
        if ready.writable {
            // A failure here shows in the read as well, which may still have the relay's last word.
            let _ = shared.outbox.pay(&shared.socket);
        }
        if !ready.readable {
            return Ok(());
        }
        match shared.socket.read(self.inbox.space()) {
            Ok(0) if self.inbox.is_empty() => Err(Closed::Ended),
            Ok(0) => Err(Closed::broken(&ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.inbox.filled(count);
                self.heard = Instant::now();
                self.asked = None;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) if matches!(Fault::of(&error), Some(Fault::Truncated)) => Err(Closed::Truncated),
            Err(error) => Err(Closed::broken(&error)),
        }
    }

    fn owe(&self, frame: &[u8]) {
        // A write that fails is no reason to stop reading: the relay's last word may be on its way.
        let _ = self.shared.outbox.owe(&self.shared.socket, frame);
    }

    /// Notes the end and wakes senders that wait for room.
    fn end(&mut self, closed: Closed) {
        self.shared.socket.shutdown();
        self.closed = Some(match (closed, self.last_word.take()) {
            (Closed::Ended | Closed::Truncated | Closed::Broken { .. }, Some((last_word, _))) => {
                Closed::ByRelay(last_word)
            }
            (closed, _) => closed,
        });
    }
}
