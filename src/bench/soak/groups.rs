//! Who does what in a soak: the clients in groups, each with its share.
//!
//! | share | group | what they do |
//! | --- | --- | --- |
//! | 1 | herald | sends to all, to lists, and to the room of the slow |
//! | `--stuck` | slow | stop reading until frames are skipped for them, read on, and stop again |
//! | a fifth | visitors | come, talk with their host and leave: by a GOODBYE, a half-close, or a reset |
//! | a tenth | hosts | watch everybody, and talk with visitors |
//! | a tenth | guests | join and leave rooms all the time, some of which come and vanish with them |
//! | a tenth | idle | hear what is for all, and answer heartbeats |
//! | the rest | talkers | send to their partner; each is in a room, whose first member sends to the others |

use std::ops::Range;

use crate::bench::scenario::Work;

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Herald,
    Slow,
    Visitor,
    Host,
    Guest,
    Idle,
    Talker,
}

/// The clients' numbers, group by group.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Groups {
    pub(super) herald: u32,
    pub(super) slow: Range<u32>,
    pub(super) visitors: Range<u32>,
    pub(super) hosts: Range<u32>,
    pub(super) guests: Range<u32>,
    pub(super) talkers: Range<u32>,
    pub(super) idle: Range<u32>,
}

/// With fewer, some group would be nobody.
const CLIENTS_MIN: u64 = 20;

impl Groups {
    /// The groups of `work`; it must have been checked by [`Groups::check`].
    #[must_use]
    pub(in crate::bench) fn of(work: &Work) -> Self {
        let all = work.connections;
        let mut next: u32 = 1;
        let mut take = |count: u32| {
            let start = next;
            next = start.saturating_add(count).min(all);
            start.min(all)..next
        };
        let (slow, visitors, hosts) = (take(work.stuck), take(all / 5), take((all / 10).max(1)));
        let guests = take(((all / 10) & !1).max(2));
        let idle = (all / 10).max(1);
        let talkers = take(all.saturating_sub(guests.end).saturating_sub(idle) & !1);
        Self { herald: 0, slow, visitors, hosts, guests, talkers, idle: next..all }
    }

    /// Whether every group has enough clients.
    ///
    /// # Errors
    /// One line that says what to change.
    pub(in crate::bench) fn check(work: &Work) -> Result<(), String> {
        let (connections, rooms, stuck) = (u64::from(work.connections), u64::from(work.rooms), u64::from(work.stuck));
        if rooms == 0 {
            return Err("--rooms 0 leaves the talkers without a room: give at least 1".to_owned());
        }
        // Half of the clients are talkers, less the herald, the slow, and what rounding leaves over.
        let enough = (2 * (2 * rooms + stuck + 4)).max(CLIENTS_MIN);
        if connections < CLIENTS_MIN || connections < enough && Self::of(work).talkers.len() as u64 <= 2 * rooms {
            return Err(format!(
                "--connections {connections} are too few for {rooms} rooms of at least two talkers, {stuck} slow readers \
                 and all the others: give at least {enough}, or fewer --rooms or --stuck"
            ));
        }
        Ok(())
    }

    /// What a client is there for.
    pub(super) fn role(&self, client: u32) -> Role {
        let groups = [
            (&self.slow, Role::Slow),
            (&self.visitors, Role::Visitor),
            (&self.hosts, Role::Host),
            (&self.guests, Role::Guest),
            (&self.talkers, Role::Talker),
            (&self.idle, Role::Idle),
        ];
        groups.iter().find(|(group, _)| group.contains(&client)).map_or(Role::Herald, |(_, role)| *role)
    }

    /// The host whom a visitor talks with.
    pub(super) const fn host_of(&self, visitor: u32) -> u32 {
        self.hosts.start + (visitor - self.visitors.start) % (self.hosts.end - self.hosts.start)
    }

    /// The partner of a talker.
    pub(super) const fn partner_of(&self, talker: u32) -> u32 {
        self.talkers.start + ((talker - self.talkers.start) ^ 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Plan, Scenario, Wishes};

    fn work(connections: u32, rooms: u32, stuck: u32) -> Result<Work, String> {
        let wishes =
            Wishes { connections: Some(connections), rooms: Some(rooms), stuck: Some(stuck), ..Wishes::default() };
        Plan::new(Scenario::Soak, &wishes).map(|plan| plan.work)
    }

    #[test]
    fn every_client_has_one_role_and_every_group_somebody() {
        for (connections, rooms, stuck) in
            [(20, 1, 0), (20, 1, 1), (29, 2, 1), (200, 10, 2), (201, 40, 3), (9999, 500, 9)]
        {
            let work = work(connections, rooms, stuck).expect("enough");
            let groups = Groups::of(&work);
            let all = [&groups.slow, &groups.visitors, &groups.hosts, &groups.guests, &groups.talkers, &groups.idle];
            assert_eq!(all.iter().map(|group| group.len()).sum::<usize>() + 1, connections as usize);
            let empty = all.iter().filter(|group| group.is_empty()).count();
            assert_eq!(empty, usize::from(stuck == 0), "{groups:?}");
            assert!(groups.talkers.len() >= 2 * rooms as usize, "{groups:?}");
            assert!(groups.talkers.len().is_multiple_of(2) && groups.guests.len().is_multiple_of(2), "{groups:?}");
            for client in 0..connections {
                let is_partner = groups.role(client) == Role::Talker;
                assert!(!is_partner || groups.role(groups.partner_of(client)) == Role::Talker);
            }
            assert_eq!(groups.role(0), Role::Herald);
        }
    }

    #[test]
    fn too_few_are_told_with_how_many_are_enough() {
        for (connections, rooms, stuck) in
            [(19, 1, 0), (20, 4, 1), (200, 60, 2), (200, 10, 90), (4, u32::MAX, u32::MAX)]
        {
            let line = work(connections, rooms, stuck).expect_err("too few");
            let enough = line.split("at least ").last().and_then(|rest| rest.split(',').next()).expect("a number");
            let enough: u64 = enough.parse().expect("a number");
            if let Ok(enough) = u32::try_from(enough) {
                work(enough, rooms, stuck).expect("what it says is enough");
            }
        }
    }
}
