//! Resets at every stage of the handshake.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;
use switchboard::wire::control::{Body, Hello, Join, Profile, Watch};
use switchboard::wire::{Header, Id, Type};

use crate::crowd::source;
use crate::scene::Scene;
use crate::support::{RawClient, dial};

/// How far a client gets before its connection is reset.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Connected,
    FirstByte,
    HalfHello,
    /// It does not wait for the answer.
    WholeHello,
    Welcomed,
    /// It has asked for more than it waits for.
    Asked,
    WithinFrame,
}

const STAGES: [Stage; 7] = [
    Stage::Connected,
    Stage::FirstByte,
    Stage::HalfHello,
    Stage::WholeHello,
    Stage::Welcomed,
    Stage::Asked,
    Stage::WithinFrame,
];

fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(socket);
}

/// Each stage again and again; the name is the same each time, so that a connection that was not forgotten shows.
pub(crate) fn resets(scene: &mut Scene) {
    let before = scene.relay.counters().total("connections");
    let mut hello = Vec::new();
    Hello::new(Profile::named("comes and goes")).write_frame(Header::new(Type::Hello), &mut hello);
    let mut resets = 0_u64;
    while resets == 0 || scene.goes_on() || resets < scene.size.of(140, 0) {
        for stage in STAGES {
            let socket = dial(scene.relay.address, source(resets as usize));
            let mut client = RawClient { socket, id: Id::RELAY };
            let bytes = match stage {
                Stage::Connected => 0,
                Stage::FirstByte => 1,
                Stage::HalfHello => hello.len() / 2,
                _ => hello.len(),
            };
            client.socket.write_all(&hello[..bytes]).expect("the relay reads");
            if matches!(stage, Stage::Welcomed | Stage::Asked | Stage::WithinFrame) {
                client = registered(scene, client, &hello, resets as usize);
            }
            match stage {
                Stage::Asked => {
                    client.say(Header::new(Type::Watch), &Watch::default());
                    client.say(Header::new(Type::Join), &Join { name: "bystanders" });
                    client.send(Header::new(Type::Send).to(client.id), &[1; 5000]);
                }
                Stage::WithinFrame => {
                    let mut frame = Vec::new();
                    Header::new(Type::Send).to(Id::ALL).write_frame(&mut frame, |out| out.extend_from_slice(&[1; 900]));
                    client.socket.write_all(&frame[..500]).expect("the relay reads");
                }
                _ => {}
            }
            reset(client.socket);
            resets += 1;
        }
    }
    // All are forgotten: no connection is left over, and the name is free.
    while scene.relay.counters().total("connections") != before {}
    let again = RawClient::connect(scene.relay.address, "comes and goes");
    drop(again);
    scene.note(format!("{resets} resets in {} stages; none left over", STAGES.len()));
}

/// Waits for the WELCOME. The one before may still have the name, then it tries again.
fn registered(scene: &Scene, mut client: RawClient, hello: &[u8], number: usize) -> RawClient {
    loop {
        let (header, payload) = client.frame();
        if header.frame_type() == Some(Type::Welcome) {
            client.id = switchboard::wire::control::Welcome::parse(&payload).expect("a WELCOME").client;
            return client;
        }
        client.socket = dial(scene.relay.address, source(number));
        client.socket.write_all(hello).expect("the relay reads");
    }
}
