//! The dialect of the byte floor: payloads of one size, one behind the other.

use switchboard::bench::{Destination, Dialect, Event, Role};
use switchboard::reactor::Progress;

use crate::floor::{ANSWER, HEARS_ALL, NOBODY};

/// Speaks to the byte floor. There are no rooms on it.
#[derive(Debug)]
pub(crate) struct Floor {
    payload_bytes: usize,
    /// Which clients have been answered.
    answered: Vec<bool>,
}

impl Floor {
    /// A dialect whose messages are payloads of exactly this size, at least one byte.
    pub(crate) fn new(payload_bytes: usize) -> Self {
        Self { payload_bytes: payload_bytes.max(1), answered: Vec::new() }
    }
}

impl Dialect for Floor {
    fn greet(&mut self, client: u32, role: Role, out: &mut Vec<u8>) {
        let index = client as usize;
        if self.answered.len() <= index {
            self.answered.resize(index + 1, false);
        }
        self.answered[index] = false;
        let mode = if role.hears_all { HEARS_ALL } else { 0 };
        for word in [client, role.partner.unwrap_or(NOBODY), mode] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }

    fn read(
        &mut self,
        client: u32,
        data: &[u8],
        _: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress, String> {
        let mut rest = data;
        let answered = self.answered.get_mut(client as usize).ok_or("it answers whom it does not know")?;
        if !*answered {
            match rest.split_first() {
                Some((&ANSWER, behind)) => {
                    (*answered, rest) = (true, behind);
                    on(Event::Ready);
                }
                Some((byte, _)) => return Err(format!("it answers {byte} instead of {ANSWER}")),
                None => {}
            }
        }
        let payloads = rest.chunks_exact(self.payload_bytes);
        let left = payloads.remainder().len();
        for payload in payloads {
            on(Event::Delivered(payload));
        }
        Ok(Progress { consumed: data.len() - left, wanted: self.payload_bytes })
    }

    fn send(&mut self, _: u32, _: Destination, _: u32, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(payload);
    }
}
