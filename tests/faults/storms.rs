//! Many at once: thousands lost, thousands back, thousands with one name, a million rooms.

use std::time::{Duration, Instant};

use switchboard::wire::{Header, Type};

use crate::bystanders::Part;
use crate::crowd::Crowd;
use crate::lost_peers::{departures, watcher};
use crate::scene::Scene;
use crate::support::RawClient;

/// Storms in a full run: each is short.
const STORMS: u32 = 4;

/// All clients of a process are lost at once. Measured is the time until the last has been seen to go.
pub(crate) fn mass_disconnect(scene: &mut Scene) {
    let (storms, clients) = scene.size.of((1, 300), (STORMS, 5000));
    let mut lasted = Duration::ZERO;
    for _ in 0..storms {
        scene.bystanders.begin(Part::Unmeasured);
        let mut crowd = Crowd::start("storm", scene.relay.address, &[&clients.to_string()]);
        assert_eq!(crowd.line(), "here");
        let mut watcher = watcher(scene);
        scene.bystanders.begin(Part::Disturbed);
        let began = Instant::now();
        crowd.kill();
        let codes = departures(&mut watcher, clients);
        assert!(codes.iter().all(|code| matches!(code, 2 | 3)), "they hung up, or were reset");
        lasted += began.elapsed();
        scene.bystanders.begin(Part::Unmeasured);
    }
    scene.note(format!("{storms} × {clients} lost at once; all seen to go after {:.0?}", lasted / storms));
}

/// All clients are lost at once and are back at once. Measured is the time until the last is registered again.
pub(crate) fn reconnect_storm(scene: &mut Scene) {
    let (storms, clients) = scene.size.of((1, 300), (STORMS, 5000));
    let lasted = lost_and_back(scene, ("storm", &[]), "let in", storms, clients);
    scene.note(format!("{storms} × {clients} lost and back; all registered after {lasted:.0?}"));
}

/// Has all `clients` of a crowd lost and back at once, again and again, beside bystanders that are measured meanwhile, and
/// counted by the relay once for each time. Gives the mean time until the last is registered again.
pub(crate) fn lost_and_back(
    scene: &mut Scene,
    (role, more): (&str, &[&str]),
    counter: &str,
    storms: u32,
    clients: u32,
) -> Duration {
    scene.bystanders.begin(Part::Unmeasured);
    let mut crowd = Crowd::start(role, scene.relay.address, &[&[&*clients.to_string()], more].concat());
    assert_eq!(crowd.line(), "here");
    let before = scene.relay.counters().total(counter);
    let mut lasted = Duration::ZERO;
    for _ in 0..storms {
        scene.bystanders.go_on(100);
        scene.bystanders.begin(Part::Disturbed);
        let began = Instant::now();
        crowd.tell("again");
        assert_eq!(crowd.line(), "here");
        lasted += began.elapsed();
        scene.bystanders.begin(Part::Unmeasured);
    }
    let came = scene.relay.counters().total(counter) - before;
    assert_eq!(came, u64::from(storms * clients), "each came once");
    lasted / storms
}

/// Thousands come with the name of somebody who is here, or all with the same new name: one has it, at most.
pub(crate) fn duplicate_names(scene: &mut Scene) {
    let clients = scene.size.of(100, 2000);
    scene.bystanders.begin(Part::Unmeasured);
    let mut holder = RawClient::connect(scene.relay.address, "holder");
    let mut crowd = Crowd::start("namesakes", scene.relay.address, &[&clients.to_string()]);
    assert_eq!(crowd.line(), "here");
    scene.bystanders.begin(Part::Disturbed);
    let mut storms = 0;
    for number in 0.. {
        crowd.tell("holder");
        assert_eq!(crowd.line(), format!("0 welcomed, {clients} refused"));
        crowd.tell(&format!("new-{number}"));
        assert_eq!(crowd.line(), format!("1 welcomed, {} refused", clients - 1));
        storms += 2;
        if !scene.goes_on() {
            break;
        }
    }
    scene.bystanders.begin(Part::Unmeasured);
    holder.send(Header::new(Type::Ping), &[]);
    holder.frame_of(Type::Pong);
    let refused = scene.relay.counters().closed("HELLO_NAME_TAKEN");
    scene.note(format!(
        "{storms} × {clients} with one name; {refused} × HELLO_NAME_TAKEN, and one WELCOME for each new name"
    ));
}

/// A million rooms are asked for; as many are given as there may be, and all go with their members.
pub(crate) fn million_rooms(scene: &mut Scene) {
    let (clients, each, most) = scene.size.of((30, 100, 1_000), (2_000, 500, 100_000));
    scene.bystanders.begin(Part::Unmeasured);
    let mut crowd = Crowd::start("rooms", scene.relay.address, &[&clients.to_string(), &each.to_string()]);
    assert_eq!(crowd.line(), "here");
    let resident = scene.relay.resident_bytes();
    let before = scene.relay.counters().total("rooms");
    scene.bystanders.begin(Part::Disturbed);
    crowd.tell("ask");
    let given = most - before as usize;
    assert_eq!(crowd.line(), format!("{given} joined, {} refused", clients * each - given));
    scene.bystanders.begin(Part::Unmeasured);
    assert_eq!(scene.relay.counters().total("rooms"), most as u64);
    let grown = scene.relay.resident_bytes().saturating_sub(resident);
    assert!(grown < 512 * most as u64 + (8 << 20), "{grown} bytes for {most} rooms");
    scene.bystanders.begin(Part::Disturbed);
    crowd.kill();
    while scene.relay.counters().total("rooms") != before {}
    scene.bystanders.begin(Part::Unmeasured);
    scene.note(format!(
        "{} rooms asked for, {given} given, the rest refused as LIMIT_REACHED; {} KiB for them; all gone with their members",
        clients * each,
        grown / 1024
    ));
}
