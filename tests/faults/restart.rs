//! The relay is killed and started again at the same place: its clients, the library's own, come back by themselves,
//! and nothing is answered twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use switchboard::client::{Address, Backoff, Client, Envelope, Event, Options};
use switchboard::wire::Id;
use switchboard::wire::control::Who;

use crate::bystanders::{Bystanders, Part};
use crate::relay::{Relay, Start};
use crate::scene::{Ending, Scene, Size};
use crate::support::HANG;

/// Clients that ask; one more answers.
const ASKERS: u32 = 4;
/// Answers that each has got before the relay is killed, and again after it has come back.
const ANSWERS_MIN: u64 = 50;
/// After so long without an answer or a word of why, one was lost in silence.
const PATIENCE: Duration = Duration::from_secs(20);

/// What asker and answerer have seen, by asker and number of the question.
#[derive(Debug, Default)]
struct Books {
    /// How often each question reached the one who answers.
    asked: BTreeMap<(u32, u32), u32>,
    /// How often each answer came.
    answered: BTreeMap<(u32, u32), u32>,
    /// Questions that failed, and the asker was told so.
    refused: u64,
    /// Questions whose connection ended before an answer came.
    unknown: u64,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    books: Mutex<Books>,
    answers: Vec<AtomicU64>,
    stop: AtomicBool,
}

/// A connection that is made again, with the library's own delays, until it stands.
fn connect(shared: &Shared, name: &str, backoff: &mut Backoff) -> Option<Client> {
    while !shared.stop.load(Ordering::Relaxed) {
        match Client::connect(&shared.address, &Options::named(name)) {
            Ok(client) => return Some(client),
            // Nobody listens there yet, or the relay has not noticed yet that the last connection has ended.
            Err(_) => std::thread::sleep(backoff.delay(None)),
        }
    }
    None
}

fn answer(shared: &Shared) {
    let mut backoff = Backoff::default();
    while let Some(client) = connect(shared, "answerer", &mut backoff) {
        let (sender, mut receiver) = client.split();
        while !shared.stop.load(Ordering::Relaxed) {
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Some(Event::Message(message)) => {
                    let question = question(&message.payload);
                    *shared.books.lock().expect("the books").asked.entry(question).or_default() += 1;
                    let _ = sender.send(message.header.source, Envelope::bytes(), &message.payload);
                }
                Some(Event::Closed(_)) => break,
                _ => {}
            }
        }
    }
}

fn question(payload: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]]);
    (word(0), word(4))
}

/// Asks one question after the other, each once.
fn ask(shared: &Shared, asker: u32) {
    let (mut backoff, mut number) = (Backoff::default(), 0);
    while let Some(client) = connect(shared, &format!("asker-{asker}"), &mut backoff) {
        let (sender, mut receiver) = client.split();
        let mut to: Option<Id> = None;
        let mut open: Option<(u32, Instant)> = None;
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let sent = match (to, open) {
                (None, _) => sender.who(Who::Named("answerer")).map(|_| ()),
                (Some(to), None) => {
                    number += 1;
                    open = Some((number, Instant::now()));
                    let payload = [asker.to_be_bytes(), number.to_be_bytes()].concat();
                    sender.send_as(number, to, Envelope::bytes().receipt(), &payload)
                }
                _ => Ok(()),
            };
            // If it could not be sent the connection has ended, which the next event says.
            let _ = sent;
            let event = receiver.recv_timeout(Duration::from_millis(50));
            let mut books = shared.books.lock().expect("the books");
            match event {
                Some(Event::Snapshot(page)) => to = page.members.first().map(|peer| peer.id),
                Some(Event::Message(message)) => {
                    let question = question(&message.payload);
                    *books.answered.entry(question).or_default() += 1;
                    shared.answers[asker as usize].fetch_add(1, Ordering::Relaxed);
                    if open.is_some_and(|(number, _)| question == (asker, number)) {
                        open = None;
                    }
                }
                // The answerer is not here, or not any more: it is looked for again.
                Some(Event::Error(failure)) if !failure.closes() => {
                    if open.take_if(|(number, _)| *number == failure.correlation).is_some() {
                        books.refused += 1;
                    }
                    to = None;
                    drop(books);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Some(Event::Closed(_)) => {
                    books.unknown += u64::from(open.is_some());
                    break;
                }
                _ => {}
            }
            assert!(open.is_none_or(|(_, since)| since.elapsed() < PATIENCE), "neither an answer nor a word of why");
        }
    }
}

fn start(address: SocketAddr) -> (Arc<Shared>, Vec<JoinHandle<()>>) {
    let shared = Arc::new(Shared {
        address: address.to_string().parse().expect("an address"),
        books: Mutex::default(),
        answers: (0..ASKERS).map(|_| AtomicU64::new(0)).collect(),
        stop: AtomicBool::new(false),
    });
    let mut threads = Vec::new();
    let this = Arc::clone(&shared);
    threads.push(std::thread::spawn(move || answer(&this)));
    for asker in 0..ASKERS {
        let this = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || ask(&this, asker)));
    }
    (shared, threads)
}

/// Waits until each asker has got so many further answers.
fn answers(shared: &Shared, count: u64) {
    let before: Vec<u64> = shared.answers.iter().map(|answers| answers.load(Ordering::Relaxed)).collect();
    let deadline = Instant::now() + HANG;
    while shared.answers.iter().zip(&before).any(|(now, before)| now.load(Ordering::Relaxed) < before + count) {
        assert!(Instant::now() < deadline, "the clients have not come back: {:?}", shared.answers);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Killed and started again.
pub(crate) fn killed(scene: &mut Scene) {
    scene.ending = Ending::Killed;
    let address = scene.relay.address;
    let (shared, threads) = start(address);
    let kills = scene.size.of(1, 3);
    let mut away = Duration::ZERO;
    for _ in 0..kills {
        answers(&shared, ANSWERS_MIN);
        scene.relay.signal(Signal::KILL);
        scene.relay.wait();
        let began = Instant::now();
        scene.relay = Relay::start(&Start { listen: address.to_string(), ..scene.start.clone() }, scene.cores.as_ref());
        assert_eq!(scene.relay.address, address);
        answers(&shared, 1);
        away += began.elapsed();
    }
    // Others who come now find it as it was before.
    let mut after = Bystanders::start(address, scene.size.load());
    after.begin(Part::Disturbed);
    after.go_on(100);
    if scene.size == Size::Full {
        std::thread::sleep(Duration::from_secs(3));
    }
    scene.after = Some(after.finish());
    answers(&shared, ANSWERS_MIN);
    shared.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a client does not panic");
    }

    let books = shared.books.lock().expect("the books");
    for (what, table) in [("asked", &books.asked), ("answered", &books.answered)] {
        let twice: Vec<_> = table.iter().filter(|(_, count)| **count != 1).collect();
        assert!(twice.is_empty(), "{what} more than once: {twice:?}");
    }
    assert!(books.answered.keys().all(|question| books.asked.contains_key(question)), "nobody asked that");
    scene.note(format!(
        "killed {kills} times; all clients had answers again {:.0?} after the start; {} questions answered once, {} \
         refused, {} unknown when their connection ended; none twice",
        away / kills,
        books.answered.len(),
        books.refused,
        books.unknown
    ));
}
