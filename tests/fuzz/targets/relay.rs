//! Sequences of operations on the relay: the bytes say who comes, sends, reads, breaks and goes, what time passes,
//! and how much the sockets take; the model of the relay's own tests judges every step.

#![allow(dead_code, reason = "the relay's own tests use more of it")]

use crate::dice;
use crate::dice::Dice;

#[path = "../../relay/directory.rs"]
mod directory;
#[path = "../../relay/foresight.rs"]
mod foresight;
#[path = "../../relay/frames.rs"]
pub(super) mod frames;
#[path = "../../relay/judge.rs"]
mod judge;
#[path = "../../relay/model.rs"]
mod model;
#[path = "../../relay/people.rs"]
pub(super) mod people;
#[path = "../../relay/requests.rs"]
mod requests;
#[path = "../../relay/world.rs"]
pub(super) mod world;

/// What is not reached in as many steps is not reached in more.
const STEPS_MAX: usize = 3_000;

pub(crate) fn run(input: &[u8]) {
    model::Model::new(Dice::given(input)).play(STEPS_MAX);
}
