//! The reactor under operations that the bytes choose: peers that come, send, block, break and end, a service that
//! sends, pauses and closes whenever it is called, and time; the model of the reactor's own tests compares every byte.

#![allow(dead_code, reason = "the reactor's own tests use more of it")]

use super::support;
use crate::dice;

#[path = "../../reactor/operations.rs"]
mod operations;

pub(crate) fn run(input: &[u8]) {
    operations::run(dice::Dice::given(input));
}
