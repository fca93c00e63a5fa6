//! From a plan that fails to the smallest that fails in the same way: steps are left out in ever smaller pieces
//! (ddmin: Zeller and Hildebrandt, IEEE TSE 2002), then what is left is made simpler.

use std::time::Duration;

use super::doors::Door;
use super::network::Line;
use super::people::People;
use super::plan::{Action, Plan, Reader, Step};
use super::run::{Failure, run};

/// Runs that shrinking may take.
const RUNS_MAX: usize = 3000;

/// The smallest plan that was found, and how that fails.
pub(crate) fn shrink(plan: Plan, failure: Failure) -> (Plan, Failure) {
    let mut shrinker = Shrinker { plan, failure, runs: 0 };
    shrinker.leave_out();
    shrinker.simplify();
    shrinker.leave_out();
    (shrinker.plan, shrinker.failure)
}

struct Shrinker {
    plan: Plan,
    failure: Failure,
    runs: usize,
}

impl Shrinker {
    /// Keeps `plan` if it fails as before.
    fn keeps(&mut self, plan: Plan) -> bool {
        self.runs += 1;
        match run(&plan) {
            Err(failure) if failure.place == self.failure.place => {
                (self.plan, self.failure) = (plan, failure);
                true
            }
            _ => false,
        }
    }

    fn leave_out(&mut self) {
        let mut piece = self.plan.steps.len().div_ceil(2);
        while piece > 0 && self.runs < RUNS_MAX {
            let mut start = 0;
            let mut has_shrunk = false;
            while start < self.plan.steps.len() && self.runs < RUNS_MAX {
                let mut plan = self.plan.clone();
                let end = (start + piece).min(plan.steps.len());
                plan.steps.drain(start..end);
                if self.keeps(plan) {
                    has_shrunk = true;
                } else {
                    start = end;
                }
            }
            piece = if has_shrunk && piece > 1 { piece } else { piece / 2 };
        }
    }

    fn simplify(&mut self) {
        let calm = Plan { restless_poll: false, ..self.plan.clone() };
        self.keeps(calm);
        self.keeps(Plan { people: People::default(), ..self.plan.clone() });
        let used = self.plan.steps.iter().map(|step| step.client + 1).max().unwrap_or(1);
        self.keeps(Plan { clients: used, ..self.plan.clone() });
        for place in 0..self.plan.steps.len() {
            for simpler in simpler(&self.plan.steps[place]) {
                if self.runs >= RUNS_MAX {
                    return;
                }
                let mut plan = self.plan.clone();
                plan.steps[place] = simpler;
                self.keeps(plan);
            }
        }
    }
}

/// Simpler ways to do the same, each to be tried on top of those before it.
fn simpler(step: &Step) -> Vec<Step> {
    let with = |action: Action| Step { action, ..step.clone() };
    let mut all = vec![Step { turns: 1, ..step.clone() }];
    match step.action.clone() {
        Action::Connect { hello, payload_bytes_max, keepalive_ms, reader, door, .. } => {
            let line = Line::PLAIN;
            for (door, reader) in [(door, reader), (door, Reader::Prompt), (Door::PLAIN, Reader::Prompt)] {
                all.push(with(Action::Connect { hello, payload_bytes_max, keepalive_ms, line, door, reader }));
            }
        }
        Action::Crowd { count, door, .. } => {
            for count in [1, count / 8, count / 4, count / 2] {
                all.push(with(Action::Crowd { count: count.max(1), line: Line::PLAIN, door }));
            }
        }
        Action::Send { to, payload_bytes, count, kind, type_number, flags } => {
            for fewer in [1, count / 2] {
                let count = fewer.max(1);
                all.push(with(Action::Send { to, payload_bytes, count, kind, type_number, flags }));
            }
            all.push(with(Action::Send { to, payload_bytes, count, kind: 0, type_number: 0x10, flags: 0 }));
        }
        Action::SendMany { to, via, payload_bytes, flags, .. } => {
            all.push(with(Action::SendMany { to: to[..1].to_vec(), strangers: 0, via, payload_bytes, flags }));
        }
        Action::Pass(_) => all.push(with(Action::Pass(Duration::from_secs(1)))),
        _ => {}
    }
    all
}
