//! How a server is spoken to: all that the load generator needs to know of a protocol.
//!
//! The load generator itself deals in clients with numbers, destinations and payloads. A dialect turns them
//! into a server's bytes and back, so that the same work can be put on any server that passes messages.

use crate::reactor::Progress;

/// What a client of the load generator is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The client that it sends to and hears from, if it is one of a pair.
    pub partner: Option<u32>,
    /// The room whose messages it gets.
    pub room: Option<u32>,
    /// Whether it gets what is sent to all.
    pub hears_all: bool,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One client.
    Client(u32),
    /// All members of a room but the sender.
    Room(u32),
    /// All that hear what is sent to all, but not the sender.
    All,
}

/// What bytes from a server mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The client is registered and hears everything that its role says.
    Ready,
    /// A message has arrived; this is its payload.
    Delivered(&'a [u8]),
    /// The message with this number, which the client sent, is delivered to nobody.
    Refused {
        /// What [`Dialect::send`] was given.
        number: u32,
        /// The server's word for why.
        why: &'static str,
    },
    /// So many messages for this client are missing here, and the server says so.
    Missed(u64),
    /// The server ends the connection, in its own words.
    Ending(&'a str),
}

/// A server's protocol, as far as the load generator speaks it. One value speaks for all clients.
pub trait Dialect {
    /// Whether a new client is answered, so that [`Event::Ready`] will come. Otherwise it counts as ready
    /// as soon as it is connected, over TLS as soon as the handshake is over.
    const ANSWERS: bool = true;
    /// Whether a client that is not answered leaves as soon as its handshake of TLS is over: for what that alone costs.
    const LEAVES: bool = false;

    /// Appends what a new client says first.
    fn greet(&mut self, client: u32, role: Role, out: &mut Vec<u8>);

    /// Understands what has come for a client: tells `on` of each event in its order, and appends what has
    /// to be answered at once (a heartbeat) to `reply`. What is not whole is left for the next time.
    ///
    /// # Errors
    /// Why these bytes cannot come from a server of this kind: the connection ends.
    fn read(
        &mut self,
        client: u32,
        data: &[u8],
        reply: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress, String>;

    /// Appends a message. `number` comes back if it is refused.
    fn send(&mut self, client: u32, to: Destination, number: u32, payload: &[u8], out: &mut Vec<u8>);

    /// Appends what a client says before it goes; nothing if this server expects nothing.
    fn leave(&mut self, client: u32, out: &mut Vec<u8>) {
        let _ = (client, out);
    }
}
