//! What an operator is told of as it happens: of each kind one line in ten seconds at most. The counters have every case.

use std::time::Duration;

use log::{Level, log};

use super::{Limits, PeerAddr, Refusal};
use crate::time::Time;

/// A flood must not become one of the log, and nothing of one kind may hide another.
const INTERVAL: Duration = Duration::from_secs(10);

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    /// Accepting fails.
    Accepting,
    /// A connection could not be taken in.
    TakingIn,
    /// A connection is refused.
    Refused(Refusal),
    /// A proxy has said nothing that its header could be.
    ProxyHeader,
    /// A peer has shown a certificate in which nothing is believed.
    Certificate,
}

/// When each kind may be told again.
#[derive(Debug, Default)]
pub(super) struct Notices {
    next: [Time; Notice::COUNT],
}

impl Notice {
    const COUNT: usize = 4 + Refusal::ALL.len();

    const fn ordinal(self) -> usize {
        match self {
            Self::Accepting => 0,
            Self::TakingIn => 1,
            Self::ProxyHeader => 2,
            Self::Certificate => 3,
            Self::Refused(why) => 4 + why as usize,
        }
    }

    const fn level(self) -> Level {
        match self {
            // Whoever put it on the list knows, unless the list is wrong.
            Self::Refused(Refusal::Denied) => Level::Info,
            _ => Level::Warn,
        }
    }
}

impl Notices {
    /// Tells it, unless that has been done a short while ago.
    pub(super) fn tell(&mut self, notice: Notice, now: Time, text: impl FnOnce() -> String) {
        if self.is_due(notice, now) {
            log!(notice.level(), "{}", text());
        }
    }

    fn is_due(&mut self, notice: Notice, now: Time) -> bool {
        let next = &mut self.next[notice.ordinal()];
        let is_due = now >= *next;
        if is_due {
            *next = now + INTERVAL;
        }
        is_due
    }

    /// Tells that somebody is refused.
    pub(super) fn refused(&mut self, peer: PeerAddr, why: Refusal, limits: &Limits, now: Time) {
        self.tell(Notice::Refused(why), now, || match why {
            Refusal::Connections => {
                format!("connections are refused: there are {}, as many as there may be", limits.connections_max)
            }
            Refusal::Descriptors => "no file descriptor is left and connections are refused: raise the limit on open \
                                     files (ulimit -n) or lower --connections-max"
                .to_owned(),
            Refusal::Denied => {
                format!("connections from {peer} are refused: its address may not come in (--allow, --deny)")
            }
            Refusal::AddressConnections => format!(
                "connections from {peer} are refused: there are {} from its address, as many as there may be",
                limits.connections_per_address_max
            ),
            Refusal::AddressNewcomers => format!(
                "connections from {peer} are refused: there are {} from its address that are not registered yet, as many as \
                 there may be",
                limits.newcomers_per_address_max
            ),
            Refusal::AddressRate => format!("connections from {peer} are refused: too many come in a second"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_one_is_told_in_a_while_and_none_hides_another() {
        let mut notices = Notices::default();
        let mut told = Vec::new();
        let kinds = [Notice::Accepting, Notice::TakingIn, Notice::ProxyHeader, Notice::Certificate];
        let refused = Refusal::ALL.map(Notice::Refused);
        for second in 1..=21 {
            for notice in kinds.into_iter().chain(refused) {
                if notices.is_due(notice, Time::from_micros(second * 1_000_000)) {
                    told.push((second, notice.ordinal()));
                }
            }
        }
        let all = |second| (0..Notice::COUNT).map(move |kind| (second, kind));
        told.sort_unstable();
        assert_eq!(told, all(1).chain(all(11)).chain(all(21)).collect::<Vec<_>>());
    }
}
