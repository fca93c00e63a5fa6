//! Peers that are lost or misbehave one by one: killed, stopped, writing or reading in drops.

use std::io::Write;

use switchboard::wire::control::{Presence, Watch, presence};
use switchboard::wire::{Header, Type};

use crate::crowd::Crowd;
use crate::scene::Scene;
use crate::support::RawClient;

/// Clients of a process that is killed.
const TALKERS: usize = 20;

/// Somebody who is told who comes and goes.
pub(crate) fn watcher(scene: &Scene) -> RawClient {
    let mut watcher = RawClient::connect(scene.relay.address, "watcher");
    watcher.say(Header::new(Type::Watch), &Watch::default());
    watcher.frame_of(Type::Snapshot);
    watcher
}

/// Waits until so many have departed since the last call; returns the codes' numbers.
pub(crate) fn departures(watcher: &mut RawClient, count: usize) -> Vec<u16> {
    let mut codes = Vec::new();
    while codes.len() < count {
        let (_, payload) = watcher.frame_of(Type::Delta);
        for entry in presence(&payload) {
            if let Presence::Departed(member) = entry.expect("a DELTA") {
                codes.push(member.code_number);
            }
        }
    }
    codes
}

/// A process is killed while its clients talk: the system closes its sockets, with what they have not read.
pub(crate) fn killed(scene: &mut Scene) {
    let mut watcher = watcher(scene);
    let mut killed = 0;
    loop {
        let mut crowd = Crowd::start("talk", scene.relay.address, &[&format!("doomed-{killed}"), &TALKERS.to_string()]);
        assert_eq!(crowd.line(), "talking");
        scene.bystanders.go_on(20);
        crowd.kill();
        killed += 1;
        // All are gone, with the code of a connection that ended without a GOODBYE or was reset.
        let codes = departures(&mut watcher, TALKERS);
        assert!(codes.iter().all(|code| matches!(code, 2 | 3)), "{codes:?}");
        if !scene.goes_on() {
            break;
        }
    }
    scene.note(format!("{killed} processes killed, {TALKERS} clients each; each departure told"));
}

/// Frames that come one byte at a time: each is delivered whole.
pub(crate) fn one_byte_writes(scene: &mut Scene) {
    let mut writer = RawClient::connect(scene.relay.address, "one byte at a time");
    let mut reader = RawClient::connect(scene.relay.address, "reader");
    let mut frames = 0;
    loop {
        let mut frame = Vec::new();
        let payload = [frames as u8; 100];
        Header::new(Type::Send).to(reader.id).correlating(frames).write_frame(&mut frame, |out| out.extend(payload));
        for byte in frame {
            writer.socket.write_all(&[byte]).expect("the relay reads");
        }
        let (header, got) = reader.frame_of(Type::Send);
        assert_eq!((header.correlation, got.as_slice()), (frames, &payload[..]));
        frames += 1;
        if !scene.goes_on() && frames >= scene.size.of(20, 100) {
            break;
        }
    }
    scene.note(format!("{frames} frames in {} segments of one byte, each delivered whole", frames * 128));
}
