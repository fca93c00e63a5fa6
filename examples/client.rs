//! A client of a few lines: it greets everybody, and answers whoever writes to it.
//!
//! Start a relay with `switchboard serve`, then this, then write to it:
//!
//! ```text
//! cargo run --example client -- 127.0.0.1:9999 echo
//! switchboard send --to echo "hello"
//! ```

use std::error::Error;
use std::io::{self, Write};

use switchboard::client::{Address, Client, Directory, Envelope, Event, Options, Step};
use switchboard::wire::Id;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: Address = arguments.next().as_deref().unwrap_or("127.0.0.1:9999").parse()?;
    let options = Options::named(arguments.next().unwrap_or_else(|| "echo".into()));

    // HELLO and WELCOME are done when this returns. Two threads could have a half each; here one has both.
    let (sender, mut receiver) = Client::connect(&address, &options)?.split();
    let me = sender.session().client;
    let mut out = io::stdout().lock();
    writeln!(out, "connected to {address} as {}, client {me}", options.name)?;

    // WATCH: first a snapshot of who is here, then every change.
    let mut directory = Directory::new(None);
    directory.asked(sender.watch(None)?);
    sender.send(Id::ALL, Envelope::text().no_echo(), b"hello, I repeat what you write to me")?;

    loop {
        // Snapshots and changes keep the directory; all PINGs are answered within `recv`.
        let step = match receiver.recv() {
            Event::Message(message) => {
                let from = directory.by_id(message.header.source).map_or("somebody", |peer| peer.name.as_str());
                writeln!(out, "{from} sent {} bytes", message.payload.len())?;
                // Only what was written to this client alone is repeated: two of these must not talk for ever.
                if message.header.destination == me && !from.starts_with("echo") {
                    let envelope = Envelope::kind(message.header.kind).receipt();
                    sender.send(message.header.source, envelope, &message.payload)?;
                }
                continue;
            }
            Event::Receipt(receipt) => {
                writeln!(out, "frame {} is {:?}", receipt.correlation, receipt.stage)?;
                continue;
            }
            Event::Error(failure) => {
                writeln!(out, "frame {} failed: {failure}", failure.correlation)?;
                continue;
            }
            Event::Closed(why) => {
                writeln!(out, "{why}")?;
                return Ok(());
            }
            Event::Snapshot(page) => directory.apply_snapshot(page),
            Event::Delta(delta) => directory.apply_delta(delta, |_| ()),
            Event::Gap { .. } => directory.gap(),
            _ => continue,
        };
        match step {
            Step::Complete => writeln!(out, "{} client(s) are here", directory.len())?,
            Step::WatchAgain => directory.asked(sender.watch(None)?),
            Step::Applied | Step::NotMine => {}
        }
    }
}
