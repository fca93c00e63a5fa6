//! Who gets a frame: one client, several, a room or all; and what happens if it cannot be delivered.
//!
//! The promise: a frame is queued for its recipient whole and in order, or refused to its sender by an ERROR
//! that echoes its correlation, or counted in a GAP that stands in the recipient's stream where the frame
//! would have been. All three happen here and nowhere else.

use super::access::Badge;
use super::counters::{Counters, Denial};
use super::outbox::Outbox;
use super::peers::{Peer, PendingReceipt, State};
use super::rooms::EVERYBODY;
use super::{Refused, Relay, Settings};
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::planted::{self, Bug};
use crate::time::Time;
use crate::wire::control::{self, Body, ErrorBody, Gap, Reason, Receipt, Stage};
use crate::wire::{Code, Flags, Frames, HEADER_BYTES, Header, Id, IdKind, Run, Type};

/// A frame that waits for its receipt takes memory beside the queue: so many bytes of queue allow one.
const QUEUE_BYTES_PER_RECEIPT: usize = 256;

/// Why frames go nowhere.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Code(Code),
    Denied(Denial),
}

impl Failure {
    const fn of_address(code: Code) -> Self {
        if matches!(code, Code::Denied) { Self::Denied(Denial::Address) } else { Self::Code(code) }
    }

    const fn code(self) -> Code {
        match self {
            Self::Code(code) => code,
            Self::Denied(_) => Code::Denied,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Code(code) => code.meaning(),
            Self::Denied(denial) => denial.meaning(),
        }
    }
}

impl Relay {
    /// Passes routed frames on to their destination.
    pub(super) fn route(
        &mut self,
        from: Id,
        header: &Header,
        run: Run<'_>,
        badge: Badge,
        now: Time,
        out: &mut impl Outbox,
    ) {
        if header.destination.kind() == IdKind::Client && !badge.addresses_only_some() {
            return self.route_to_one(from, header, &run, out);
        }
        self.route_with_care(from, run, badge, now, out);
    }

    /// The same for many, and for clients of those who may address only some. Out of line, or what most frames take would be a
    /// tenth longer.
    #[inline(never)]
    fn route_with_care(&mut self, from: Id, run: Run<'_>, badge: Badge, now: Time, out: &mut impl Outbox) {
        let header = &run.header();
        let to_many = !matches!(header.frame_type(), Some(Type::Ack | Type::Ping | Type::Pong));
        let (client, failure) = match header.destination.kind() {
            IdKind::Client => match self.check_address(badge, header.destination) {
                Ok(()) => return self.route_to_one(from, header, &run, out),
                Err(code) => (Some(header.destination), Failure::of_address(code)),
            },
            IdKind::All if to_many && (badge.may_send_to_all() || planted::has(Bug::AllUnchecked)) => {
                return self.fan_out(from, header, &run, EVERYBODY, out);
            }
            IdKind::All if to_many => (None, Failure::Denied(Denial::All)),
            IdKind::Room if to_many => match self.room_to_send_to(from, header.destination) {
                Ok(slot) => return self.fan_out(from, header, &run, slot, out),
                Err(failure) => (None, failure),
            },
            _ => (None, Failure::Code(Code::BadDestination)),
        };
        if let Failure::Denied(denial) = failure {
            self.note_denial(from, denial, |relay| relay.described(header.destination), run.frames, now, out);
        }
        for frame in Frames::new(run.bytes) {
            self.refuse(from, Header::read(frame).correlation, failure, client, out);
        }
    }

    /// The slot of a room that a client is in, and may send to.
    fn room_to_send_to(&self, from: Id, room: Id) -> Result<u32, Failure> {
        let slot = self.rooms.slot(room).ok_or_else(|| Failure::Code(self.no_such_room(from)))?;
        match self.peers.get(from).and_then(|peer| peer.membership(slot)) {
            Some(membership) if membership.may_send => Ok(slot),
            Some(_) => Err(Failure::Denied(Denial::Send)),
            None => Err(Failure::Code(Code::NotMember)),
        }
    }

    fn route_to_one(&mut self, from: Id, header: &Header, run: &Run<'_>, out: &mut impl Outbox) {
        let to = header.destination;
        match self.send_to_one(from, header, run.bytes, run.frames, run.payload_bytes_max, out) {
            Ok(()) => {}
            Err(code) if run.frames == 1 => {
                self.refuse(from, header.correlation, Failure::Code(code), Some(to), out);
            }
            Err(_) => {
                // Not all of them fit, but some may: each frame has its own fate.
                for frame in Frames::new(run.bytes) {
                    let header = Header::read(frame);
                    let payload_bytes = (frame.len() - HEADER_BYTES) as u32;
                    if let Err(code) = self.send_to_one(from, &header, frame, 1, payload_bytes, out) {
                        self.refuse(from, header.correlation, Failure::Code(code), Some(to), out);
                    }
                }
            }
        }
    }

    fn send_to_one(
        &mut self,
        from: Id,
        header: &Header,
        bytes: &[u8],
        frames: u32,
        payload_bytes: u32,
        out: &mut impl Outbox,
    ) -> Result<(), Code> {
        let to = header.destination;
        let peer = self.peers.registered(to).ok_or(Code::NoSuchClient)?;
        if payload_bytes > peer.payload_bytes_max && !planted::has(Bug::LimitIgnored) {
            return Err(Code::TooLargeForRecipient);
        }
        // A frame that asks for a receipt is a run of its own.
        let wants_receipt = header.flags.has(Flags::RECEIPT);
        if wants_receipt {
            let pending = peer.extra.as_ref().map_or(0, |extra| extra.receipts.len());
            if pending >= self.settings.queue_bytes_max / QUEUE_BYTES_PER_RECEIPT {
                return Err(Code::QueueFull);
            }
            // Before the frame is sent: it may be written at once.
            out.notify_written(to, true);
        }
        deliver(peer, &mut Outgoing::to_one(bytes), frames, &self.settings, &mut self.counters, out)?;
        if wants_receipt {
            let position = out.position(to);
            peer.extra().receipts.push_back(PendingReceipt { position, sender: from, correlation: header.correlation });
        }
        Ok(())
    }

    /// Queues frames for every member of a room; those who have no room for them count them in a GAP.
    fn fan_out(&mut self, from: Id, header: &Header, run: &Run<'_>, slot: u32, out: &mut impl Outbox) {
        let except = (header.flags.has(Flags::NO_ECHO) && !planted::has(Bug::Echo)).then_some(from);
        // Nobody comes or goes while frames are queued: connections are freed at the end of a turn.
        let Some(members) = self.rooms.get_mut(slot).map(|room| std::mem::take(&mut room.members)) else { return };
        let mut outgoing = Outgoing::to_many(run.bytes);
        let (mut queued, mut skipped) = (0, 0);
        for id in members.iter().filter(|id| Some(**id) != except) {
            let Some(peer) = self.peers.registered(*id) else { continue };
            let sent = if run.payload_bytes_max <= peer.payload_bytes_max {
                deliver(peer, &mut outgoing, run.frames, &self.settings, &mut self.counters, out)
            } else {
                Err(Code::TooLargeForRecipient)
            };
            match sent {
                Ok(()) => queued += u64::from(run.frames),
                Err(Code::NoSuchClient) => {}
                Err(_) => {
                    let (more, missed) = self.fan_out_singly(*id, run, out);
                    queued += more;
                    skipped += missed;
                }
            }
        }
        if let Some(room) = self.rooms.get_mut(slot) {
            room.members = members;
        }
        if header.flags.has(Flags::RECEIPT) {
            self.receipt_queued(from, header.correlation, queued, skipped, out);
        }
    }

    /// Queues what fits of a run that does not fit as a whole, and counts the rest in the recipient's GAP;
    /// says how many frames were queued and skipped.
    fn fan_out_singly(&mut self, to: Id, run: &Run<'_>, out: &mut impl Outbox) -> (u64, u64) {
        let (mut queued, mut skipped) = (0, 0);
        let Some(peer) = self.peers.registered(to) else { return (0, 0) };
        for frame in Frames::new(run.bytes) {
            // A single frame has been tried already.
            let again = run.frames > 1 && frame.len() - HEADER_BYTES <= peer.payload_bytes_max as usize;
            let mut outgoing = Outgoing::to_one(frame);
            if again && deliver(peer, &mut outgoing, 1, &self.settings, &mut self.counters, out).is_ok() {
                queued += 1;
            } else {
                skipped += 1;
                self.counters.frames_skipped += 1;
                skip(peer, frame.len(), out);
            }
        }
        // Frames that were too large for a client that keeps up: no write will come that the GAP waits for.
        if peer.has_gap && out.queued_bytes(to) <= self.settings.queue_bytes_max / 2 {
            send_gap(peer, Lane::Control, &mut self.counters, out);
        }
        (queued, skipped)
    }

    /// SEND_MANY: a SEND to each client of a list, which is cut off in place.
    pub(super) fn send_many(
        &mut self,
        from: Id,
        header: &Header,
        run: Run<'_>,
        badge: Badge,
        now: Time,
        out: &mut impl Outbox,
    ) {
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        if header.destination != Id::RELAY {
            self.recipients = recipients;
            return self.refuse(from, header.correlation, Failure::Code(Code::BadDestination), None, out);
        }
        let payload_start = match control::recipients(run.payload()) {
            Ok((list, start)) => {
                recipients.extend(list);
                start
            }
            Err(error) => {
                self.recipients = recipients;
                let code = match error {
                    crate::wire::BodyError::TooMany(_) => Code::LimitReached,
                    _ => Code::BadBody,
                };
                let refused = Refused::because(code, error.to_string());
                return self.refuse_with(from, header.correlation, &refused, out);
            }
        };
        // The list in front of the payload is longer than nothing, so a header has room there.
        let send = Header { type_number: Type::Send.number(), destination: Id::MANY, source: from, ..*header };
        let frame = &mut run.bytes[payload_start..];
        let payload_bytes = frame.len() - HEADER_BYTES;
        frame[..HEADER_BYTES].copy_from_slice(&send.bytes(payload_bytes));
        let mut outgoing = Outgoing::to_many(frame);
        let except = header.flags.has(Flags::NO_ECHO).then_some(from);
        let (mut queued, mut refused, mut denied) = (0, 0, 0);
        for to in recipients.iter().filter(|to| Some(**to) != except) {
            let is_checked = badge.addresses_only_some() && !planted::has(Bug::ListUnchecked);
            let allowed = if is_checked { self.check_address(badge, *to) } else { Ok(()) };
            let result = match self.peers.registered(*to) {
                _ if allowed.is_err() => allowed,
                None => Err(Code::NoSuchClient),
                Some(peer) if payload_bytes > peer.payload_bytes_max as usize => Err(Code::TooLargeForRecipient),
                Some(peer) => deliver(peer, &mut outgoing, 1, &self.settings, &mut self.counters, out),
            };
            match result {
                Ok(()) => queued += 1,
                Err(code) => {
                    refused += 1;
                    denied += u32::from(code == Code::Denied);
                    self.refuse(from, header.correlation, Failure::of_address(code), Some(*to), out);
                }
            }
        }
        self.recipients = recipients;
        if denied > 0 {
            self.note_denial(from, Denial::Address, |_| "in a list".to_owned(), denied, now, out);
        }
        if header.flags.has(Flags::RECEIPT) {
            let told = if planted::has(Bug::RefusedCounted) { queued + refused } else { queued };
            self.receipt_queued(from, header.correlation, told, refused, out);
        }
    }

    /// Something was written to a client: what waited for that can go on.
    pub(super) fn written(&mut self, id: Id, written: u64, out: &mut impl Outbox) {
        while let Some(extra) = self.peers.get_mut(id).and_then(|peer| peer.extra.as_mut())
            && let Some(pending) = extra.receipts.front().copied()
            && (pending.position <= written || planted::has(Bug::ReceiptTooEarly))
        {
            extra.receipts.pop_front();
            let receipt = Receipt { stage: Stage::Written.number(), ..Receipt::default() };
            self.receipt(pending.sender, pending.correlation, receipt, Lane::Control, out);
        }
        let Some(peer) = self.peers.registered(id) else { return };
        if out.queued_bytes(id) <= self.settings.queue_bytes_max / 2 {
            if peer.has_gap {
                send_gap(peer, Lane::Control, &mut self.counters, out);
            }
            if peer.paused && !planted::has(Bug::PauseKept) {
                peer.paused = false;
                out.pause(id, false);
            }
        }
        self.continue_listing(id, out);
        if self.peers.get(id).is_some_and(|peer| !peer.wants_notice()) {
            out.notify_written(id, false);
        }
    }

    /// Tells the senders of what was queued for a client that is gone.
    pub(super) fn give_back(&mut self, id: Id, cut: &[u8], unsent: &[u8], out: &mut impl Outbox) {
        let cut = Some(cut).filter(|cut| cut.len() >= HEADER_BYTES && !planted::has(Bug::CutFrameForgotten));
        for frame in cut.into_iter().chain(Frames::new(unsent)) {
            let header = Header::read(frame);
            if header.source == Id::RELAY {
                continue;
            }
            if matches!(header.destination, to if to == id || to == Id::MANY) {
                self.counters.frames_lost += 1;
                self.refuse(header.source, header.correlation, Failure::Code(Code::RecipientLost), Some(id), out);
            } else {
                self.counters.frames_void += 1;
            }
        }
    }

    /// Tells a client that a frame of its failed.
    fn refuse(&mut self, to: Id, correlation: u32, failure: Failure, client: Option<Id>, out: &mut impl Outbox) {
        let code = failure.code();
        self.counters.refused[code.ordinal()] += 1;
        let header = Header::new(Type::Error).to(to).correlating(correlation);
        let reason = Reason { client, ..Reason::new(code, failure.text()) };
        let lane = if code == Code::RecipientLost { Lane::Control } else { Lane::Answer };
        self.tell(to, lane, out, |frame| ErrorBody(reason).write_frame(header, frame));
    }

    /// Tells a client that a request of its failed, and what was wrong with it.
    pub(super) fn refuse_with(&mut self, to: Id, correlation: u32, refused: &Refused, out: &mut impl Outbox) {
        self.counters.refused[refused.code.ordinal()] += 1;
        let header = Header::new(Type::Error).to(to).correlating(correlation);
        let reason = Reason::new(refused.code, refused.text());
        self.say(to, out, |frame| ErrorBody(reason).write_frame(header, frame));
    }

    pub(super) fn receipt_done(&mut self, to: Id, correlation: u32, out: &mut impl Outbox) {
        let receipt = Receipt { stage: Stage::Done.number(), ..Receipt::default() };
        self.receipt(to, correlation, receipt, Lane::Answer, out);
    }

    fn receipt_queued(&mut self, to: Id, correlation: u32, queued: u64, skipped: u64, out: &mut impl Outbox) {
        let stage = Stage::Queued.number();
        let receipt = Receipt { stage, recipients: Some(queued), skipped: Some(skipped) };
        self.receipt(to, correlation, receipt, Lane::Answer, out);
    }

    fn receipt(&mut self, to: Id, correlation: u32, receipt: Receipt, lane: Lane, out: &mut impl Outbox) {
        self.counters.receipts += 1;
        let header = Header::new(Type::Receipt).to(to).correlating(correlation);
        self.tell(to, lane, out, |frame| receipt.write_frame(header, frame));
    }

    /// Answers a client that is here, or has the last word, with a frame that `write` writes.
    pub(super) fn say(&mut self, to: Id, out: &mut impl Outbox, write: impl FnOnce(&mut Vec<u8>)) {
        self.tell(to, Lane::Answer, out, write);
    }

    /// Sends a frame of the relay's own, which `write` writes, to a client that is here.
    fn tell(&mut self, to: Id, lane: Lane, out: &mut impl Outbox, write: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        write(&mut frame);
        if let Some(peer) = self.peers.get_mut(to).filter(|peer| peer.state != State::Leaving) {
            say_to(peer, &mut Outgoing::to_one(&frame), lane, &self.settings, &mut self.counters, out);
        }
        self.frame = frame;
    }
}

/// Queues frames of a client for another.
///
/// Once something was skipped, nothing more is queued until half of the queue has been written: GAPs and
/// frames would else alternate, one by one. Nor is a GAP queued in front of a frame that does not fit behind it.
fn deliver(
    peer: &mut Peer,
    outgoing: &mut Outgoing<'_>,
    frames: u32,
    settings: &Settings,
    counters: &mut Counters,
    out: &mut impl Outbox,
) -> Result<(), Code> {
    if frames > 1 && outgoing.bytes().len() > settings.queue_bytes_max {
        // An empty queue takes a message of any length, but a run is not one.
        return Err(Code::QueueFull);
    }
    if peer.has_gap && !planted::has(Bug::GapOvertaken) {
        let queued = out.queued_bytes(peer.id);
        let both = queued + GAP_FRAME_BYTES + outgoing.bytes().len();
        let fits = queued <= settings.queue_bytes_max / 2 && both <= settings.queue_bytes_max;
        if !fits || !send_gap(peer, Lane::Control, counters, out) {
            return Err(Code::QueueFull);
        }
    }
    out.send(peer.id, outgoing, Lane::Traffic).map_err(|error| match error {
        SendError::Full => Code::QueueFull,
        SendError::Gone => Code::NoSuchClient,
    })?;
    counters.frames_queued += u64::from(frames);
    counters.bytes_queued += outgoing.bytes().len() as u64;
    Ok(())
}

/// Queues a frame of the relay's own.
///
/// A client for which half of the reserve for these frames is used up does not read what it is told: it is
/// not listened to either until it has. So the other half is there for the answers to the frame that is being
/// handled, and only what others cause (DELTAs, receipts of what was written, what is lost with a recipient)
/// can be missing, which its GAP then counts.
pub(super) fn say_to(
    peer: &mut Peer,
    outgoing: &mut Outgoing<'_>,
    lane: Lane,
    settings: &Settings,
    counters: &mut Counters,
    out: &mut impl Outbox,
) {
    // A GAP for which there is room, but not for the frame behind it, would be followed by the next GAP.
    let both = out.queued_bytes(peer.id) + GAP_FRAME_BYTES + outgoing.bytes().len();
    let room = settings.queue_bytes_max + settings.queue_reserve_bytes;
    let fits = !peer.has_gap || both <= room && send_gap(peer, lane, counters, out);
    if !fits || out.send(peer.id, outgoing, lane) == Err(SendError::Full) {
        counters.control_skipped += 1;
        skip(peer, outgoing.bytes().len(), out);
    }
    if !peer.paused && out.queued_bytes(peer.id) > settings.queue_bytes_max + settings.queue_reserve_bytes / 2 {
        peer.paused = true;
        out.notify_written(peer.id, true);
        out.pause(peer.id, true);
    }
}

/// Queues what others have done and nobody has asked for again, which is a DELTA: up to half of the queue, and what is more
/// is counted in a GAP. Whoever joins and leaves without end, or changes what it says of itself, must not leave those who
/// watch no room for what they are sent, and for the answers without which they are not listened to.
pub(super) fn tell_of_others(
    peer: &mut Peer,
    outgoing: &mut Outgoing<'_>,
    settings: &Settings,
    counters: &mut Counters,
    out: &mut impl Outbox,
) {
    let queued = out.queued_bytes(peer.id);
    if queued > 0 && queued + outgoing.bytes().len() > settings.queue_bytes_max / 2 {
        counters.control_skipped += 1;
        return skip(peer, outgoing.bytes().len(), out);
    }
    say_to(peer, outgoing, Lane::Control, settings, counters, out);
}

/// Counts a frame that a client had no room for.
fn skip(peer: &mut Peer, bytes: usize, out: &mut impl Outbox) {
    let extra = peer.extra();
    extra.gap_frames += 1;
    extra.gap_bytes += bytes as u64;
    if !peer.has_gap {
        peer.has_gap = true;
        out.notify_written(peer.id, true);
    }
}

/// Queues the GAP for what a client has missed; says whether there was room for it.
pub(super) fn send_gap(peer: &mut Peer, lane: Lane, counters: &mut Counters, out: &mut impl Outbox) -> bool {
    let id = peer.id;
    let extra = peer.extra();
    let unsaid = u64::from(extra.gap_frames > 1 && planted::has(Bug::GapOffByOne));
    let gap = Gap { frames: extra.gap_frames - unsaid, bytes: extra.gap_bytes };
    let mut frame = [0; GAP_FRAME_BYTES];
    let header = Header::new(Type::Gap).to(id);
    frame[..HEADER_BYTES].copy_from_slice(&header.bytes(GAP_FRAME_BYTES - HEADER_BYTES));
    frame[HEADER_BYTES..].copy_from_slice(&gap.bytes());
    if out.send(id, &mut Outgoing::to_one(&frame), lane).is_err() {
        return false;
    }
    extra.gap_frames = 0;
    if !planted::has(Bug::GapBytesKept) {
        extra.gap_bytes = 0;
    }
    peer.has_gap = false;
    counters.gaps += 1;
    true
}

/// A header and two integers.
const GAP_FRAME_BYTES: usize = HEADER_BYTES + 24;
