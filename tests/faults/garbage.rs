//! What is no protocol at all: garbage, lengths beyond all limits, frames that never end; at volume.

use std::io::{Read, Write};
use std::net::Shutdown;

use switchboard::wire::control::{Body, ErrorBody, Hello, Profile};
use switchboard::wire::{Code, HEADER_BYTES, Header, Id, PAYLOAD_BYTES_DEFAULT, Type};

use crate::crowd::source;
use crate::scene::Scene;
use crate::support::{RawClient, dial};

/// A fixed seed: what fails once fails again.
const SEED: u64 = 0x5357_4244;

/// What the relay may hold for all clients together, where that is small.
pub(crate) const BUFFERED_TOTAL: u64 = 8 << 20;

/// The code of the last ERROR before the end of the stream; `None` if it ended without one.
fn last_code(client: &mut RawClient) -> Option<Code> {
    let mut code = None;
    while let Ok((header, payload)) = client.try_frame() {
        if header.frame_type() == Some(Type::Error) {
            code = ErrorBody::parse(&payload).expect("an ERROR").0.code();
        }
    }
    code
}

/// Strangers that send noise, and clients that send it where a frame should begin, or within a good frame.
pub(crate) fn noise(scene: &mut Scene) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut strangers, mut broken, mut answered, mut bytes) = (0_usize, 0_u64, 0_u64, 0_u64);
    let mut noise = vec![0; 16 * 1024];
    while scene.goes_on() || strangers < scene.size.of(60, 0) {
        random.fill(&mut noise);
        // The first byte of a length that was allowed would be zero.
        noise[0] |= 1;
        let socket = dial(scene.relay.address, source(strangers));
        let mut stranger = RawClient { socket, id: Id::RELAY };
        let _ = stranger.socket.write_all(&noise);
        let _ = stranger.socket.shutdown(Shutdown::Write);
        assert_eq!(last_code(&mut stranger), Some(Code::NotSwitchboard));

        let mut client = RawClient::connect(scene.relay.address, "noisy");
        // Whole frames of all types with noise for a body: each is answered or passed on, and the client lives.
        for type_number in [0x00_u8, 0x03, 0x11, 0x20, 0x22, 0x24, 0x30, 0x31, 0x7f] {
            let mut frame = Header::new(Type::Send).to(Id::RELAY).correlating(9).bytes(100).to_vec();
            frame[4] = type_number;
            frame.extend_from_slice(&noise[..100]);
            client.socket.write_all(&frame).expect("the relay reads");
        }
        client.send(Header::new(Type::Ping), &[]);
        while client.frame().0.frame_type() != Some(Type::Pong) {
            answered += 1;
        }
        let _ = client.socket.write_all(&noise);
        let _ = client.socket.shutdown(Shutdown::Write);
        let code = last_code(&mut client);
        assert!(matches!(code, Some(Code::BadFrame | Code::FrameTooLarge)), "{code:?}");
        (strangers, broken, bytes) = (strangers + 1, broken + 1, bytes + 2 * noise.len() as u64);
    }
    let counters = scene.relay.counters();
    assert_eq!(counters.closed("NOT_SWITCHBOARD"), strangers as u64);
    assert_eq!(counters.closed("BAD_FRAME") + counters.closed("FRAME_TOO_LARGE"), broken);
    scene.note(format!(
        "{strangers} strangers and {broken} clients with {} KiB of noise, each told why; {answered} answers to bad bodies",
        bytes / 1024
    ));
}

/// Lengths above the limit are refused as soon as their four bytes are there, whatever comes behind them.
pub(crate) fn oversize(scene: &mut Scene) {
    let resident = scene.relay.resident_bytes();
    let flood = vec![0x55; 1 << 20];
    let (mut refused, mut bytes) = (0_u64, 0_u64);
    while scene.goes_on() || refused < scene.size.of(20, 0) {
        let mut client = RawClient::connect(scene.relay.address, &format!("large-{refused}"));
        let length = PAYLOAD_BYTES_DEFAULT + 25 + refused as u32;
        client.socket.write_all(&length.to_be_bytes()).expect("open");
        // It has been told before any more has come; then it sends all the same, until the relay has had enough.
        let (header, payload) = client.frame();
        assert_eq!(header.frame_type(), Some(Type::Error));
        assert_eq!(ErrorBody::parse(&payload).expect("an ERROR").0.code(), Some(Code::FrameTooLarge));
        bytes += client.socket.write(&flood).unwrap_or(0) as u64;
        refused += 1;
    }
    let grown = scene.relay.resident_bytes().saturating_sub(resident);
    assert!(grown < 8 << 20, "{grown} bytes of memory");
    assert_eq!(scene.relay.counters().closed("FRAME_TOO_LARGE"), refused);
    scene.note(format!(
        "{refused} lengths refused after four bytes; {} MiB behind them thrown away; {} KiB of memory",
        bytes >> 20,
        grown / 1024
    ));
}

/// Frames that begin and never end, more of them than memory is granted for: the largest go, then the deadline
/// ends the others.
pub(crate) fn never_ending(scene: &mut Scene) {
    let count = scene.size.of(200, 1000);
    let resident = scene.relay.resident_bytes();
    let mut frame = Vec::new();
    Header::new(Type::Send).to(Id::ALL).write_frame(&mut frame, |out| out.extend_from_slice(&vec![1; 65_000]));
    let mut hello = Vec::new();
    Hello::new(Profile::named("never")).write_frame(Header::new(Type::Hello), &mut hello);
    let (mut begun, mut peak) = (0, 0);
    let mut rounds = 0;
    loop {
        let mut clients: Vec<RawClient> = (0..count)
            .map(|number| {
                let name = format!("endless-{rounds}-{number}");
                let mut client =
                    RawClient::greet(scene.relay.address, &Hello::new(Profile::named(&name)), source(number));
                client.welcomed();
                // All but the last byte. Who is ended for it may find out while it writes.
                let _ = client.socket.write_all(&frame[..frame.len() - 1]);
                client
            })
            .collect();
        // Strangers whose HELLO does not end either.
        let mut strangers: Vec<_> = (0..count / 10)
            .map(|number| {
                let mut socket = dial(scene.relay.address, source(number));
                socket.write_all(&hello[..HEADER_BYTES + 3]).expect("open");
                socket
            })
            .collect();
        peak = peak.max(scene.relay.resident_bytes().saturating_sub(resident));
        begun += clients.len() + strangers.len();
        // Each learns why, or finds its connection gone.
        for client in &mut clients {
            let code = last_code(client);
            assert!(matches!(code, None | Some(Code::FrameTimeout)), "{code:?}");
        }
        for stranger in &mut strangers {
            let _ = stranger.read_to_end(&mut Vec::new());
        }
        rounds += 1;
        if !scene.goes_on() {
            break;
        }
    }
    let counters = scene.relay.counters();
    let (memory, overdue) = (counters.closed("MEMORY_PRESSURE"), counters.closed("FRAME_TIMEOUT"));
    let hello_overdue = counters.closed("HELLO_TIMEOUT");
    assert!(memory > 0 && overdue > 0, "{counters:?}");
    assert_eq!(memory + overdue + hello_overdue, begun as u64, "each is ended for one of three reasons");
    // Beyond the budget there are the records of connections and names, and what the allocator keeps.
    assert!(peak < 2 * BUFFERED_TOTAL + (8 << 20), "{peak} bytes of memory");
    scene.note(format!(
        "{begun} begun, {} MiB in all: {memory} × MEMORY_PRESSURE, {overdue} × FRAME_TIMEOUT, {hello_overdue} × \
         HELLO_TIMEOUT; {} MiB of memory with a budget of {} MiB",
        (begun * frame.len()) >> 20,
        peak >> 20,
        BUFFERED_TOTAL >> 20
    ));
}
