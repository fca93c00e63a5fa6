//! A blocking client of a relay: connect, send, receive, know who is here.
//!
//! Place in the flow: the commands and the examples stand on it, and it stands on [`wire`](crate::wire) and, to prove a
//! password, on [`auth`](crate::auth).
//! A [`Client`] splits into a [`Sender`], of which any thread may have one, and a [`Receiver`], whose owner
//! turns the stream into [`Event`]s and answers the relay's and the peers' PINGs on the way. A
//! [`Directory`] keeps who is here, a [`Backoff`] says how long to wait before connecting again.
//!
//! What it does not do: it starts no thread, connects to nothing on its own, and keeps no queue: what
//! nobody receives waits at the relay, which counts what did not fit in a GAP.
//!
//! ```no_run
//! use switchboard::client::{Address, Client, Envelope, Event, Options};
//! use switchboard::wire::Id;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address: Address = "127.0.0.1:9999".parse()?;
//! let (sender, mut receiver) = Client::connect(&address, &Options::named("ada"))?.split();
//! sender.send(Id::ALL, Envelope::text().no_echo(), "good morning".as_bytes())?;
//! loop {
//!     match receiver.recv() {
//!         Event::Message(message) => println!("{}: {} bytes", message.header.source, message.payload.len()),
//!         Event::Closed(why) => break println!("{why}"),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Over a network that others use, a `tls://` address has the relay's certificate and name checked, and credentials say
//! who the client is:
//!
//! ```no_run
//! use switchboard::client::{Address, Client, Credentials, Options, Tls};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address: Address = "tls://relay.example.org".parse()?;
//! let options = Options {
//!     // Without a file: the authorities that the system knows.
//!     tls: Tls { ca: Some("relay.pem".into()), identity: None },
//!     credentials: Some(Credentials::Password { user: "ada".into(), password: "correct horse".into() }),
//!     ..Options::named("ada/desk")
//! };
//! let client = Client::connect(&address, &options)?;
//! println!("authenticated as {:?}", client.session().user);
//! # Ok(()) }
//! ```

mod address;
mod backoff;
mod connect;
mod connect_error;
mod credentials;
mod directory;
mod event;
mod inbox;
mod options;
mod outbox;
mod receiver;
mod sender;
mod socket;
mod stream;
mod tls;

pub use address::{Address, AddressError};
pub use backoff::{Backoff, DELAY_FIRST, DELAY_MAX, STOOD_WELL};
pub use connect_error::ConnectError;
pub use credentials::{Credentials, Secret};
pub use directory::{Directory, Happening, Step};
pub use event::{Change, Closed, Delta, Event, Failure, JoinedRoom, Message, Peer, Pong, ReceiptFor, Snapshot};
pub use options::{CONNECT_TIMEOUT_DEFAULT, Options};
pub use receiver::Receiver;
pub use sender::{Envelope, SendError, Sender, Session};
pub use tls::{Identity, Tls, TlsError};

/// A registered client with both halves of its connection.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    receiver: Receiver,
}

impl Client {
    /// What the relay said in its WELCOME.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.sender.session()
    }

    /// The sending half.
    #[must_use]
    pub const fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The receiving half.
    pub const fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Both halves, for two threads.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}
