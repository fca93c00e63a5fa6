//! The messages of a password exchange, and somebody between the two ends who changes them: nobody is authenticated unless
//! each end has heard what the other has said.

use std::num::NonZeroU32;
use std::sync::OnceLock;

use switchboard::auth::scram::{Binding, ClientExchange, ServerExchange};
use switchboard::auth::{Mechanism, NONCE_BYTES, SaltedPassword, Verifier};

use crate::dice::Dice;

const NAMES: [&str; 4] = ["ada", "a,b=c", "ü", "\u{2168}"];
const BINDINGS: [Binding; 3] = [Binding::None, Binding::Exporter([1; 32]), Binding::Exporter([2; 32])];
/// What stands in messages, to be put into others.
const PIECES: [&str; 16] =
    [",", "=", "n,,", "y,,", "p=tls-exporter,,", "n=", "r=", "s=", "i=", "c=", "p=", "v=", "m=", "a=", ",x=y", "=2C"];
/// More than that is not hashed here: it is a second for each million.
const ITERATIONS_MAX: u32 = 5000;

fn salted() -> &'static SaltedPassword {
    static SALTED: OnceLock<SaltedPassword> = OnceLock::new();
    SALTED.get_or_init(|| SaltedPassword::new("pencil", NonZeroU32::new(4096).expect("above 0"), b"salt"))
}

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    let [theirs, ours] = [0, 1].map(|_| BINDINGS[dice.usize(..BINDINGS.len())]);
    let name = NAMES[dice.usize(..NAMES.len())];
    let is_right = dice.bool();
    let mut client = ClientExchange::new(name, if is_right { "pencil" } else { "pen" }, theirs, [1; NONCE_BYTES]);
    if dice.bool() {
        client = client.without_plus();
    }
    // Who has the hash needs no password; else it is hashed, a few milliseconds each time.
    let knows = is_right && dice.u8(..16) != 0;
    if knows {
        client = client.with_salted(salted().clone());
    }
    let plus = (client.mechanism() == Mechanism::ScramSha256Plus) ^ (dice.u8(..8) == 0);

    let said = client.first();
    let heard = on_the_way(&mut dice, &said);
    let mut is_whole = heard == said.as_bytes();
    let lookup = |_: &str| Verifier::from_salted(salted());
    let Ok((server, said)) = ServerExchange::begin(&heard, plus, ours, lookup, [2; NONCE_BYTES]) else { return };
    assert!(!server.user().is_empty());

    let heard = on_the_way(&mut dice, &said);
    is_whole &= heard == said.as_bytes();
    if asks_too_much(&heard) {
        return;
    }
    let Ok(said) = client.answer(&heard) else { return };

    let heard = on_the_way(&mut dice, &said);
    is_whole &= heard == said.as_bytes();
    let finished = server.finish(&heard);
    let fits = theirs == ours || client.mechanism() == Mechanism::ScramSha256;
    assert_eq!(finished.is_ok(), is_whole && is_right && fits, "{name} {theirs:?} {ours:?}: {finished:?}");
    let Ok((user, said)) = finished else { return };
    assert_eq!(user, if name == "\u{2168}" { "IX" } else { name });

    let heard = on_the_way(&mut dice, &said);
    let verified = client.verify(&heard);
    // What may follow behind a comma is not signed, and not looked at.
    let is_signed = heard.strip_prefix(said.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b","));
    assert!(verified.is_err() || is_signed, "{}", String::from_utf8_lossy(&heard));
    assert!(verified.is_ok() || heard != said.as_bytes());
}

/// What becomes of a message: mostly nothing.
fn on_the_way(dice: &mut Dice, message: &str) -> Vec<u8> {
    let mut bytes = message.as_bytes().to_vec();
    let changes = dice.u8(..8);
    if changes == 7 {
        let count = dice.usize(..200);
        return dice.bytes(count);
    }
    for _ in 4..changes {
        let place = dice.usize(..=bytes.len());
        match dice.u8(..4) {
            0 => bytes.truncate(place),
            1 => {
                let piece = PIECES[dice.usize(..PIECES.len())];
                bytes.splice(place..place, piece.bytes());
            }
            2 => {
                let end = (place + dice.usize(..4)).min(bytes.len());
                bytes.drain(place..end);
            }
            _ => {
                let byte = dice.u8(..);
                bytes.splice(place..(place + 1).min(bytes.len()), [byte]);
            }
        }
    }
    bytes
}

fn asks_too_much(challenge: &[u8]) -> bool {
    let text = String::from_utf8_lossy(challenge);
    let counts = text.split("i=").skip(1).map(|rest| rest.split(',').next().unwrap_or_default());
    counts.into_iter().any(|count| count.parse().is_ok_and(|count: u32| count > ITERATIONS_MAX))
}
