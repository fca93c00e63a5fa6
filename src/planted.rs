//! Bugs planted on purpose, one at a time, to prove that the tests find them.
//!
//! A simulation that has never failed proves nothing. Each [`Bug`] here is a mistake that somebody could make at the
//! place where it is asked about; `tests/simulation` switches on one after the other and counts the runs until it is
//! noticed. The switch exists only where debug assertions do: in a release build [`has`] is `false` at compile time,
//! and nothing is left of it.

#[cfg(debug_assertions)]
use std::cell::Cell;

/// A mistake that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Reactor and relay: the user of a slot is not told from the one before it.
    StaleGeneration,
    /// Reactor: what a budget has left unread is not put on the ready list.
    ReadyEntryLost,
    /// Reactor: a socket that has room again is not written to.
    FlushForgotten,
    /// Reactor: the memory of an incomplete message stays counted after it was given back.
    BudgetLeak,
    /// Reactor: a long message is written at once although others wait in front of it.
    OrderSwapped,
    /// Reactor: of a message that was cut off, the rest is handed back as if it were messages.
    HalfFrameKept,
    /// Reactor: the write deadline runs on the newest unsent byte, so that a trickle keeps a reader alive.
    YoungestByteTimed,
    /// Reactor: a deadline more than one round of the wheel away never comes.
    LaterRoundLost,
    /// Reactor: a paused connection that goes on is not looked at again.
    ResumeForgotten,
    /// Reactor: frames of others may use the reserve for the relay's own.
    ReserveForAll,
    /// Reactor: nobody looks whether a frame that was begun is ended in time.
    HalfFrameUntimed,
    /// Reactor: a connection that lingers is dropped by a deadline that it had before.
    LingerCutShort,
    /// Reactor: one connection more than there may be is let in.
    OneTooMany,
    /// Reactor: what is sealed counts as written, though the socket has taken but a part of it.
    SealedTakenForWritten,
    /// Reactor: a peer is told over TLS that nothing follows before what waits for it is written.
    EndBeforeData,
    /// Reactor: a peer is not told over TLS that nothing follows.
    CloseNotifyForgotten,
    /// Reactor: a stream over TLS that ends without having announced it counts as ended in order.
    CutTakenForEnd,
    /// Reactor: what a record has opened to is lost if the service pauses in the midst of it.
    PlainAfterPause,
    /// Reactor: the beginning of a record that came behind another one is lost.
    RecordRestLost,
    /// Reactor: nobody looks whether a record that was begun is ended in time.
    RecordUntimed,
    /// Reactor: what gets out with the alert to a peer that has broken TLS is handed back as if it had not.
    LastFlushForgotten,
    /// Reactor: of what comes with the end of a handshake the rest is not looked at, if it is more than a turn's work.
    FirstFramesForgotten,
    /// Reactor: nobody looks whether a handshake comes to its end.
    HandshakeUntimed,
    /// Reactor: a turn goes on with more handshakes than it may.
    HandshakesAllAtOnce,
    /// Reactor: whoever has agreed on TLS counts as settled.
    NewcomerSettledTooEarly,
    /// Reactor: the gate is not heard about the address that a proxy names.
    ProxyBelieved,
    /// Reactor: who is let in does not count for its address.
    GateForgetsToCount,
    /// Reactor: the place of an address stays taken when its connection ends.
    PlaceNotGivenBack,
    /// Reactor: a slot's next user begins with what the last one has sent.
    BucketInherited,
    /// Wire: a run goes on over a frame for somebody else.
    WrongRecipient,
    /// Wire: a run goes on over a frame above the limit.
    OversizeInRun,
    /// Relay: a GAP says one frame less than were missed.
    GapOffByOne,
    /// Relay: a frame that is small enough slips in before the GAP that should stand in front of it.
    GapOvertaken,
    /// Relay: a GAP says the bytes of the one before it once more.
    GapBytesKept,
    /// Relay: who leaves in order is not told what it has missed.
    LastGapForgotten,
    /// Relay: the receipt of a list counts those who were refused as well.
    RefusedCounted,
    /// Relay: a receipt says written as soon as anything was written.
    ReceiptTooEarly,
    /// Relay: the sender of a frame that was cut off when its recipient was lost is not told.
    CutFrameForgotten,
    /// Relay: the last of those who watch misses a DELTA.
    DeltaLost,
    /// Relay: who wants no more DELTAs gets them all the same.
    UnwatchIgnored,
    /// Relay: a page of a listing skips a member when the list goes on.
    MemberSkipped,
    /// Relay: NO_ECHO is not looked at.
    Echo,
    /// Relay: a name stays taken when its client is lost.
    NameKept,
    /// Relay: a client's own limit on payloads is not looked at.
    LimitIgnored,
    /// Relay: who has answered a PING is looked at again when the answer would have been due.
    AnswerTimed,
    /// Relay: a client that is paused because it does not read its answers stays paused.
    PauseKept,
    /// Relay: who has not proved who it is is told so at once.
    FailureToldAtOnce,
    /// Relay: failures to prove a password do not count for their address.
    FailuresUncounted,
    /// Relay: what was proved against a list of users counts although there is another by now.
    OldProofBelieved,
    /// Relay: whoever wants a name takes it over from another user as well.
    AnybodysName,
    /// Reactor: whoever is registered counts among the new of its address until it goes.
    NewcomerKept,
    /// Relay: nobody looks whether a user may use a certificate.
    CertificateUnchecked,
    /// Relay: a connection that shows no life keeps the name that its user wants for another one.
    GhostKept,
    /// Relay: nobody looks whether a user may send to all.
    AllUnchecked,
    /// Relay: nobody looks whether a user may address those in the list of a SEND_MANY.
    ListUnchecked,
    /// Relay: the last of those who are held against a new list of users is passed over.
    ReviewCutShort,
    /// Relay: who may not send to its rooms any more by a new list of users still may.
    RightKept,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 57] = [
        Self::StaleGeneration,
        Self::ReadyEntryLost,
        Self::FlushForgotten,
        Self::BudgetLeak,
        Self::OrderSwapped,
        Self::HalfFrameKept,
        Self::YoungestByteTimed,
        Self::LaterRoundLost,
        Self::ResumeForgotten,
        Self::ReserveForAll,
        Self::HalfFrameUntimed,
        Self::LingerCutShort,
        Self::OneTooMany,
        Self::SealedTakenForWritten,
        Self::EndBeforeData,
        Self::CloseNotifyForgotten,
        Self::CutTakenForEnd,
        Self::PlainAfterPause,
        Self::RecordRestLost,
        Self::RecordUntimed,
        Self::LastFlushForgotten,
        Self::FirstFramesForgotten,
        Self::HandshakeUntimed,
        Self::HandshakesAllAtOnce,
        Self::NewcomerSettledTooEarly,
        Self::ProxyBelieved,
        Self::GateForgetsToCount,
        Self::PlaceNotGivenBack,
        Self::BucketInherited,
        Self::WrongRecipient,
        Self::OversizeInRun,
        Self::GapOffByOne,
        Self::GapOvertaken,
        Self::GapBytesKept,
        Self::LastGapForgotten,
        Self::RefusedCounted,
        Self::ReceiptTooEarly,
        Self::CutFrameForgotten,
        Self::DeltaLost,
        Self::UnwatchIgnored,
        Self::MemberSkipped,
        Self::Echo,
        Self::NameKept,
        Self::LimitIgnored,
        Self::AnswerTimed,
        Self::PauseKept,
        Self::FailureToldAtOnce,
        Self::FailuresUncounted,
        Self::OldProofBelieved,
        Self::AnybodysName,
        Self::NewcomerKept,
        Self::CertificateUnchecked,
        Self::GhostKept,
        Self::AllUnchecked,
        Self::ListUnchecked,
        Self::ReviewCutShort,
        Self::RightKept,
    ];
}

#[cfg(debug_assertions)]
thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug for this thread, or none.
#[cfg(debug_assertions)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
#[cfg(debug_assertions)]
#[must_use]
pub fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this bug is planted: never, in a release build.
#[cfg(not(debug_assertions))]
#[must_use]
#[inline(always)]
pub const fn has(_: Bug) -> bool {
    false
}
