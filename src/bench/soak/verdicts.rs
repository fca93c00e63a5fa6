//! What a soak has found: the verdicts on memory, descriptors and account, with their tolerances and reasons.

use std::time::Duration;

use super::crowd::Crowd;
use super::series::Series;
use super::verdict::{Flatness, SETTLING_SHARE};
use crate::bench::report::{Account, Figure, Report, Verdict};
use crate::bench::rig::lossy;
use crate::bench::scenario::{Work, judge};
use crate::bench::units::{duration, thousands};

/// Memory that comes by chance: an allocator keeps what many small pieces lie in, and a pause of the machine fills
/// queues and buffers that are never as full again.
const MEMORY_TOLERANCE_BYTES: f64 = 1024.0 * 1024.0;
/// The same for a relay that holds much.
const MEMORY_TOLERANCE_SHARE: f64 = 0.05;
/// How long a relay keeps a connection that it has closed: as many as come in that time may have a descriptor each.
const LINGER_SECONDS: f64 = 2.0;
/// Descriptors that come by chance: connections that are being accepted, a log that is opened anew.
const DESCRIPTORS_TOLERANCE: f64 = 4.0;

/// What is noted on the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The relay's descriptors before anybody came, and when all had left.
    pub(super) before: Option<u64>,
    pub(super) left: Option<u64>,
    pub(super) stopped_after: Option<Duration>,
    /// How long it really went on.
    pub(super) seconds: f64,
    /// Somebody's queue was full within the first tenth.
    has_filled_early: bool,
    account: Option<(Account, u64, bool)>,
}

impl Findings {
    /// Notes what is known after `spent` of `time`.
    pub(super) fn note(&mut self, spent: Duration, time: Duration, crowd: &Crowd) {
        if spent.as_secs_f64() <= time.as_secs_f64() * SETTLING_SHARE {
            self.has_filled_early = crowd.tally.gaps >= crowd.groups.slow.len() as u64;
        }
    }

    /// Closes the account, if that has not been done.
    pub(super) fn close_account(&mut self, crowd: &mut Crowd, is_whole: bool) {
        if self.account.is_none() {
            if is_whole {
                crowd.misinformed += crowd.count_misinformed();
            }
            let (account, unanswered) = std::mem::take(&mut crowd.ledger).close(is_whole);
            self.account = Some((account, unanswered, is_whole));
        }
    }

    /// Enters everything into the report.
    pub(super) fn tell(self, report: &mut Report, crowd: &Crowd, series: &Series, work: &Work, has_ended_well: bool) {
        if let Some(spent) = self.stopped_after {
            let (spent, asked) = (duration(spent.as_secs_f64()), duration(work.time.as_secs_f64()));
            report.failures.push(format!("stopped before its time, after {spent} of {asked}"));
        }
        self.tell_figures(report, crowd, series);
        let verdicts = [self.memory(series, crowd, work), self.descriptors(series, crowd, has_ended_well)];
        report.failures.extend(verdicts.iter().filter(|verdict| verdict.holds == Some(false)).map(Verdict::line));
        report.verdicts.extend(verdicts);
        let verdict = self.account(report, crowd);
        report.verdicts.push(verdict);
    }

    fn memory(&self, series: &Series, crowd: &Crowd, work: &Work) -> Verdict {
        let resident =
            series.samples.iter().filter_map(|sample| Some((sample.at_seconds, lossy(sample.resident_bytes?))));
        // As long as the slow have not been stuck, the relay has not shown what it takes for them.
        let queues =
            if self.has_filled_early { 0.0 } else { f64::from(work.stuck) * lossy(crowd.queue_bytes_max) * 1.25 };
        let tolerance = |first: f64| queues + MEMORY_TOLERANCE_BYTES.max(first * MEMORY_TOLERANCE_SHARE);
        let words = ["memory is flat", "memory grows"];
        verdict("memory", words, &resident.collect::<Vec<_>>(), self.seconds, tolerance, Flatness::in_bytes)
    }

    fn descriptors(&self, series: &Series, crowd: &Crowd, has_ended_well: bool) -> Verdict {
        let before = self.before.unwrap_or(0);
        let tolerance = |_| crowd.acts.moves_rate() * LINGER_SECONDS + DESCRIPTORS_TOLERANCE;
        let words = ["descriptors are flat", "descriptors grow"];
        let mut judged = verdict("descriptors", words, &series.excess, self.seconds, tolerance, |found| {
            let beyond = |value: f64| format!("{:.0}", value - lossy(before));
            vec![format!(
                "beyond one for each client, at most {} after the first tenth, {} within it; {:.0} are tolerated",
                beyond(found.later),
                beyond(found.first),
                found.tolerance,
            )]
        });
        // Strangers come and go as they like, with a descriptor each.
        if let Some((before, left)) = self.before.zip(self.left).filter(|_| has_ended_well && crowd.strangers() == 0) {
            judged.reasons.push(format!("{before} before anybody came, and {left} when all had left"));
            if left > before {
                (judged.holds, judged.says) = (Some(false), words[1].to_owned());
            }
        }
        judged
    }

    /// Judges the account; what is wrong with it becomes a failure line by line.
    fn account(self, report: &mut Report, crowd: &Crowd) -> Verdict {
        let (account, unanswered, is_whole) = self.account.unwrap_or_default();
        report.account = account;
        let before = report.failures.len();
        if is_whole {
            judge(report);
        }
        let frames =
            |count: u64, one: &str, many: &str| if count == 1 { one.to_owned() } else { format!("{count} {many}") };
        if unanswered > 0 {
            let what = frames(unanswered, "1 frame was", "frames were");
            report.failures.push(format!("{what} to be answered by a receipt or a refusal, and had neither"));
        }
        if crowd.misinformed > 0 {
            let who = frames(crowd.misinformed, "once a list", "times lists");
            report.failures.push(format!("{who} of who is here did not agree with who was here"));
        }
        if crowd.twins > 0 {
            report
                .failures
                .push(format!("{} of the relay were given to two clients", frames(crowd.twins, "1 id", "ids")));
        }
        let is_exact = report.failures.len() == before && report.account.delivered > 0;
        let account = &report.account;
        let cut_off = if account.cut_off > 0 {
            format!(
                ", {} cut off with {} clients whose connection was broken",
                thousands(account.cut_off),
                thousands(crowd.tally.cut)
            )
        } else {
            String::new()
        };
        let is_faulty = account.misordered + account.damaged + account.contradicted > 0;
        let (holds, says) = match (is_whole, is_exact) {
            (true, true) => (Some(true), "account is exact"),
            (false, _) if !is_faulty => (None, "account is open: what was on its way at the end is not known"),
            _ => (Some(false), "account is not exact"),
        };
        let fates = format!(
            "of {} copies {} were delivered, {} refused, {} counted as missing{cut_off}",
            thousands(account.sent),
            thousands(account.delivered),
            thousands(account.refused),
            thousands(account.counted),
        );
        let reasons = if is_exact {
            vec![fates, "each once, in order and intact; none was lost or contradicted".to_owned()]
        } else {
            report.failures[before..].to_vec()
        };
        Verdict { name: "account".to_owned(), holds, says: says.to_owned(), reasons }
    }

    fn tell_figures(&self, report: &mut Report, crowd: &Crowd, series: &Series) {
        let tally = &crowd.tally;
        let counts = [
            ("visits", "clients that came and went", tally.said_goodbye + tally.hung_up + tally.cut),
            ("joins", "memberships that began", tally.joins),
            ("visits_said_goodbye", "clients that went by a GOODBYE", tally.said_goodbye),
            ("visits_hung_up", "clients that went by a half-close", tally.hung_up),
            ("visits_cut", "clients that went by a reset", tally.cut),
            ("names_taken", "names that were still taken when their owner came again", tally.names_taken),
            ("rooms", "rooms that came and vanished", tally.rooms),
            ("stalls", "times that the slow stopped reading", tally.stalls),
            ("gaps", "GAPs", tally.gaps),
            ("receipts", "receipts", tally.receipts),
            ("departures", "departures told to watchers", tally.changes),
            ("heartbeats", "heartbeats answered", tally.pings),
        ];
        let counts = counts.into_iter().filter(|(name, _, count)| *count > 0 || *name == "gaps");
        report.figures.extend(counts.map(|(name, label, count)| Figure::new(name, label, lossy(count), "")));
        if let Some(share) = report.traffic.and_then(|traffic| traffic.load_core_share) {
            report.figures.push(Figure::new(
                "load_core_percent",
                "the load generator's share of a core",
                share * 100.0,
                "%",
            ));
        }
        if let Some(own) = Flatness::of(&series.own_resident, self.seconds, |_| 0.0) {
            let most = own.first.max(own.later);
            report.figures.push(Figure::new(
                "load_resident_bytes",
                "the load generator's memory, at most",
                most,
                "bytes",
            ));
            let label = "what it gained after the first tenth, by a line through it";
            report.figures.push(Figure::new("load_gained_bytes", label, own.rise(), "bytes"));
        }
        if !crowd.groups.slow.is_empty() && tally.gaps == 0 && report.traffic.is_some() {
            report.remarks.push(
                "the queues of the slow readers did not fill: give more time, a higher --rate or a larger --size"
                    .to_owned(),
            );
        }
        let others = match crowd.strangers() as u64 {
            0 => return,
            1 => "1 other client was".to_owned(),
            count => format!("{} other clients were", thousands(count)),
        };
        report
            .remarks
            .push(format!("{others} there: what was for everybody was for others, too, and is not in the account"));
    }
}

/// Judges whether something is flat; if there are too few points, that is no verdict.
fn verdict(
    name: &str,
    [flat, grows]: [&str; 2],
    points: &[(f64, f64)],
    seconds: f64,
    tolerance: impl FnOnce(f64) -> f64,
    reasons: impl FnOnce(&Flatness) -> Vec<String>,
) -> Verdict {
    let found = Flatness::of(points, seconds, tolerance);
    let (says, reasons) = match &found {
        Some(found) => (if found.holds() { flat } else { grows }.to_owned(), reasons(found)),
        None => (
            format!("{name} not judged"),
            vec![if points.is_empty() {
                "the relay's process is not to be seen from here".to_owned()
            } else {
                "too few measurements in so short a time".to_owned()
            }],
        ),
    };
    Verdict { name: name.to_owned(), holds: found.map(|found| found.holds()), says, reasons }
}
