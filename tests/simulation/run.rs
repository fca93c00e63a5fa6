//! Runs plans, catches what goes wrong, and runs many on all cores.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use switchboard::planted::Bug;

use super::judge::Tally;
use super::plan::Plan;
use super::world::World;

/// How a run failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The file and line that noticed it.
    pub(crate) place: String,
    pub(crate) what: String,
}

thread_local! {
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Has failures noted instead of printed, on all threads.
pub(crate) fn note_failures() {
    panic::set_hook(Box::new(|info| {
        let what = info.payload_as_str().unwrap_or("something without words").to_owned();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        LAST.set(Some(Failure { place, what }));
    }));
}

/// Runs a plan; what the judge, or the production code itself, finds wrong is the error.
pub(crate) fn run(plan: &Plan) -> Result<Tally, Failure> {
    let run = panic::catch_unwind(AssertUnwindSafe(|| World::run(plan)));
    run.map_err(|_| LAST.take().unwrap_or_else(|| Failure { place: String::new(), what: "it panicked".to_owned() }))
}

/// The first of `seeds` that fails, by its place in the order, and what all runs together have seen.
pub(crate) struct Outcome {
    pub(crate) runs: u64,
    pub(crate) tally: Tally,
    pub(crate) failure: Option<(u64, Failure)>,
}

/// Runs one plan for each seed, until one fails or `is_over` says so; with a bug planted, if that is wanted.
pub(crate) fn run_all(
    seeds: impl Iterator<Item = u64> + Send,
    bug: Option<Bug>,
    progress: impl Fn(u64) + Sync,
) -> Outcome {
    let seeds = Mutex::new(seeds);
    let all = Mutex::new((Tally::default(), None::<(u64, Failure)>));
    let (runs, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        plant(bug);
        let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(seed) = next().filter(|_| !is_over.load(Ordering::Relaxed)) {
            let result = run(&Plan::from_seed(seed));
            progress(runs.fetch_add(1, Ordering::Relaxed) + 1);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(tally) => all.0 += tally,
                Err(failure) => {
                    is_over.store(true, Ordering::Relaxed);
                    if all.1.as_ref().is_none_or(|(first, _)| seed < *first) {
                        all.1 = Some((seed, failure));
                    }
                }
            }
        }
        plant(None);
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (tally, failure) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Outcome { runs: runs.into_inner(), tally, failure }
}

/// Plants a bug, where there is anything to plant it in.
pub(crate) fn plant(bug: Option<Bug>) {
    #[cfg(debug_assertions)]
    switchboard::planted::plant(bug);
    #[cfg(not(debug_assertions))]
    assert!(bug.is_none(), "bugs can be planted in builds with debug assertions only");
}
