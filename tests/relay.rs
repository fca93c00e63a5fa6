//! The relay core as its server drives it, without a server: what happens to a connection goes in, and what
//! the relay does with it is looked at from the clients' side. All state that is kept twice is compared after
//! each input.

#[path = "support/dice.rs"]
mod dice;
#[path = "relay/directory.rs"]
mod directory;
#[path = "relay/foresight.rs"]
mod foresight;
#[path = "relay/frames.rs"]
mod frames;
#[path = "relay/judge.rs"]
mod judge;
#[path = "relay/model.rs"]
mod model;
#[path = "relay/people.rs"]
mod people;
#[path = "relay/requests.rs"]
mod requests;
#[path = "relay/world.rs"]
mod world;

#[path = "relay/auth.rs"]
mod auth;
#[path = "relay/delivery.rs"]
mod delivery;
#[path = "relay/gap.rs"]
mod gap;
#[path = "relay/hello.rs"]
mod hello;
#[path = "relay/many.rs"]
mod many;
#[path = "relay/memory.rs"]
mod memory;
#[path = "relay/permissions.rs"]
mod permissions;
#[path = "relay/presence.rs"]
mod presence;
#[path = "relay/profile.rs"]
mod profile;
#[path = "relay/promise.rs"]
mod promise;
#[path = "relay/receipts.rs"]
mod receipts;
#[path = "relay/reload.rs"]
mod reload;
#[path = "relay/rooms.rs"]
mod rooms;
#[path = "relay/session.rs"]
mod session;
#[path = "relay/takeover.rs"]
mod takeover;
#[path = "relay/turns.rs"]
mod turns;
