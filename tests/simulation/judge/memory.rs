//! The memory for all queues: what may be refused when it is used up, and who goes for it.

use switchboard::wire::Id;

use super::{Facts, Judge};

/// Blocks of a queue that are not full, at its front and at its end.
const BLOCKS_BYTES: usize = 2 * 4096;

/// What sealing a frame adds to it, whose bytes are then held twice.
const SEALING_BYTES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Somebody has been ended in this turn, or it is used up.
    has_run_out: bool,
}

impl Memory {
    pub(super) const fn begin(&mut self) {
        self.has_run_out = false;
    }
}

impl Judge {
    /// Looks at it after an input of so many bytes.
    pub(super) fn look_at_memory(&mut self, input_bytes: usize, facts: &Facts<'_>) {
        if !self.is_tight() || self.memory.has_run_out {
            return;
        }
        let wanted = 2 * input_bytes + SEALING_BYTES_MAX;
        let is_full = facts.held() + wanted > self.limits.buffered_total_bytes_max;
        self.memory.has_run_out = is_full || self.registered.iter().any(|id| !facts.is_open(*id));
    }

    /// Whether something may have been refused to `to` for want of memory. Whoever keeps up needs none.
    pub(super) fn may_lack_memory(&self, to: Id, facts: &Facts<'_>) -> bool {
        self.memory.has_run_out && (facts.queued(to) > 0 || facts.has_blocked(to))
    }

    /// Nobody who stays held more all the while than whoever was ended.
    pub(super) fn has_gone_for_memory(&self, id: Id, held: Option<usize>, facts: &Facts<'_>) {
        let Some(held) = held else { return };
        assert!(held > 0, "{id} is ended for memory, and nothing waits for it");
        for (other, record) in self.alive.iter().filter_map(|other| Some((*other, self.records.get(other)?))) {
            let waited = record.end_before.saturating_sub(facts.written(other)) as usize;
            assert!(
                !facts.is_open(other) || waited <= held + BLOCKS_BYTES,
                "{id} is ended for memory, with {held} bytes, and {waited} wait for {other}"
            );
        }
    }
}
