//! Every reason that the relay gives for a refusal, a close or a departure, as one closed enum.
//!
//! The thousands say what a client should do: 0xxx nobody's fault, 1xxx this frame failed, 2xxx the
//! connection closes and may come back after a delay, 3xxx it closes and must not come back unchanged.

use super::numbered::numbered;

numbered! {
    /// The number in an ERROR, in a GOODBYE, or in the departure that watchers are told of.
    pub enum Code: u16 {
        /// The client said GOODBYE.
        Left = 1 "LEFT",
        /// The client closed its side without a GOODBYE.
        HungUp = 2 "HUNG_UP",
        /// The connection was reset or failed in the network.
        Reset = 3 "RESET",

        /// The type is not known to the relay.
        UnknownType = 1001 "UNKNOWN_TYPE",
        /// The body could not be understood.
        BadBody = 1002 "BAD_BODY",
        /// The destination is not (or is no longer) a registered client.
        NoSuchClient = 1003 "NO_SUCH_CLIENT",
        /// There is no such room.
        NoSuchRoom = 1004 "NO_SUCH_ROOM",
        /// The recipient's queue has no room for this frame.
        QueueFull = 1005 "QUEUE_FULL",
        /// The recipient agreed to smaller frames only.
        TooLargeForRecipient = 1006 "TOO_LARGE_FOR_RECIPIENT",
        /// The frame was queued, but the recipient's connection ended before it was written.
        RecipientLost = 1007 "RECIPIENT_LOST",
        /// Another client has this name.
        NameTaken = 1008 "NAME_TAKEN",
        /// The name is empty, too long, or has characters that names may not have.
        BadName = 1009 "BAD_NAME",
        /// Only members may do this to a room.
        NotMember = 1010 "NOT_A_MEMBER",
        /// A limit on rooms, members or recipients is reached.
        LimitReached = 1011 "LIMIT_REACHED",
        /// The answer to an earlier WATCH or WHO is still under way.
        Busy = 1012 "BUSY",
        /// The destination is of no use for this type.
        BadDestination = 1013 "BAD_DESTINATION",
        /// This client's user may not do this.
        Denied = 1014 "DENIED",

        /// The relay is going down.
        ShuttingDown = 2001 "SHUTTING_DOWN",
        /// The relay has as many connections as it may have.
        ConnectionsFull = 2002 "CONNECTIONS_FULL",
        /// Nothing was heard for too long.
        IdleTimeout = 2003 "IDLE_TIMEOUT",
        /// The oldest byte for this client waited too long to be taken.
        SlowConsumer = 2004 "SLOW_CONSUMER",
        /// No HELLO arrived in time.
        HelloTimeout = 2005 "HELLO_TIMEOUT",
        /// A frame was begun and not completed in time.
        FrameTimeout = 2006 "FRAME_TIMEOUT",
        /// The relay's memory for what it holds is used up, and this client held the most.
        MemoryPressure = 2007 "MEMORY_PRESSURE",
        /// The system has no file descriptor for another connection.
        DescriptorsOut = 2008 "OUT_OF_DESCRIPTORS",
        /// There are as many connections from this address as there may be.
        AddressCrowded = 2009 "ADDRESS_CROWDED",
        /// Too many attempts to authenticate have failed from this address.
        TooManyAttempts = 2010 "TOO_MANY_ATTEMPTS",
        /// It was the oldest of too many connections that were not registered.
        CrowdedOut = 2011 "CROWDED_OUT",
        /// The client sends more in a second than it may.
        RateExceeded = 2012 "RATE_EXCEEDED",
        /// What the user may do has changed.
        AccessChanged = 2013 "ACCESS_CHANGED",
        /// The exchange after HELLO was not completed in time.
        AuthTimeout = 2014 "AUTH_TIMEOUT",

        /// The first bytes are not a HELLO of this protocol.
        NotSwitchboard = 3001 "NOT_SWITCHBOARD",
        /// There is no version that both sides speak.
        BadVersion = 3002 "BAD_VERSION",
        /// A frame is longer than agreed.
        FrameTooLarge = 3003 "FRAME_TOO_LARGE",
        /// A length field is below 24 or has its top bit set.
        BadFrame = 3004 "BAD_FRAME",
        /// The HELLO could not be understood.
        BadHello = 3005 "BAD_HELLO",
        /// The HELLO's name belongs to another client.
        HelloNameTaken = 3006 "HELLO_NAME_TAKEN",
        /// The HELLO's name is empty, too long, or has characters that names may not have.
        HelloBadName = 3007 "HELLO_BAD_NAME",
        /// Another frame came before HELLO, or HELLO came twice.
        OutOfOrder = 3008 "OUT_OF_ORDER",
        /// The relay asks who the client is, and the HELLO names no mechanism.
        AuthRequired = 3009 "AUTH_REQUIRED",
        /// The client has not proved to be a user.
        AuthFailed = 3010 "AUTH_FAILED",
        /// The relay does not offer this mechanism here.
        BadMechanism = 3011 "BAD_MECHANISM",
        /// The user may not have this name.
        NameDenied = 3012 "NAME_DENIED",
        /// The same user has connected under this name again.
        TakenOver = 3013 "TAKEN_OVER",
        /// Connections from this address are not taken.
        AddressDenied = 3014 "ADDRESS_DENIED",
        /// The peer broke the rules of TLS.
        TlsFailed = 3015 "TLS_FAILED",
        /// Somebody who may administer the relay has ended the connection.
        Evicted = 3016 "EVICTED",
    }
}

impl Code {
    /// How many codes there are: the size of a table of counters.
    pub const COUNT: usize = Self::ALL.len();

    /// The place of this code in [`Code::ALL`], for a table of counters.
    #[must_use]
    pub fn ordinal(self) -> usize {
        // The list is sorted by number, which a test holds.
        Self::ALL.partition_point(|other| other.number() < self.number())
    }

    /// The connection ends with this code.
    #[must_use]
    pub const fn closes(self) -> bool {
        !matches!(self.number(), 1000..=1999)
    }

    /// An ERROR with this code says when to come back: it goes to many at once, or to who would not wait else.
    #[must_use]
    pub const fn has_delay(self) -> bool {
        matches!(
            self,
            Self::ShuttingDown
                | Self::ConnectionsFull
                | Self::DescriptorsOut
                | Self::AddressCrowded
                | Self::TooManyAttempts
                | Self::CrowdedOut
                | Self::RateExceeded
                | Self::AccessChanged
        )
    }

    /// A client that was closed with this code may connect again, after a delay.
    #[must_use]
    pub const fn may_return(self) -> bool {
        self.number() < 3000
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn the_ordinal_is_the_place_in_the_list() {
        for (place, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.ordinal(), place);
            assert_eq!(Code::from_number(code.number()), Some(*code));
        }
        assert_eq!(Code::from_number(9999), None);
    }
}
