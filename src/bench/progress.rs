//! How far long work has come: one line on a terminal, nothing in a pipe.
//!
//! It reads no clock of its own accord and starts no thread. [`Progress::set`] may be called in every turn of a
//! loop: only steps that can be seen are passed on to the terminal, the others cost a comparison.

use std::fmt::{Display, Write};
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::units::thousands;

/// Steps that a phase is shown in: more than a line has columns.
const STEPS_MAX: u64 = 400;
/// The bar and how much of it is done; then what the caller says.
const TEMPLATE: &str = "{prefix} {wide_bar:.cyan/dim} {count}{msg}";
/// The same where it is not known how much there is to do.
const ENDLESS_TEMPLATE: &str = "{prefix} {count}{msg}";

/// What a phase counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// Things: connections, frames.
    Things,
    /// Milliseconds.
    Time,
}

/// A line of progress on standard error.
#[derive(Debug, Default)]
pub struct Progress {
    /// Absent if nobody looks.
    line: Option<Line>,
}

#[derive(Debug)]
struct Line {
    target: fn() -> ProgressDrawTarget,
    bar: ProgressBar,
    /// What is passed on next: everything below is too little to be seen.
    next: u64,
    step: u64,
}

impl Progress {
    /// Progress that is shown on standard error, or not at all.
    #[must_use]
    pub fn new(visible: bool) -> Self {
        // Ten drawings a second, however often it is told.
        if visible { Self::on(|| ProgressDrawTarget::stderr_with_hz(10)) } else { Self::default() }
    }

    /// Progress that is shown if standard error is a terminal.
    #[must_use]
    pub fn auto() -> Self {
        Self::new(io::stderr().is_terminal())
    }

    fn on(target: fn() -> ProgressDrawTarget) -> Self {
        Self { line: Some(Line { target, bar: ProgressBar::hidden(), next: 0, step: 1 }) }
    }

    /// Begins a phase that counts to `total`; 0 if that is not known.
    pub fn phase(&mut self, name: &'static str, total: u64) {
        self.begin(name, total, Counts::Things);
    }

    /// Begins a phase that takes so long. [`Progress::set`] counts its milliseconds.
    pub fn timed_phase(&mut self, name: &'static str, time: Duration) {
        self.begin(name, u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Counts::Time);
    }

    fn begin(&mut self, name: &'static str, total: u64, counts: Counts) {
        let Some(line) = &mut self.line else { return };
        line.bar.finish_and_clear();
        line.bar = ProgressBar::with_draw_target((total > 0).then_some(total), (line.target)());
        let template = if total > 0 { TEMPLATE } else { ENDLESS_TEMPLATE };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let count = move |state: &ProgressState, out: &mut dyn Write| {
            let _ = write_count(out, counts, state.pos(), state.len().filter(|_| total > 0));
        };
        line.bar.set_style(style.with_key("count", count).progress_chars("━╸─"));
        line.bar.set_prefix(name);
        line.step = (total / STEPS_MAX).max(1);
        line.next = 0;
        line.bar.tick();
    }

    /// Says how much of the phase is done, and something to go with it: the current rate. It is put into words
    /// only if it will be seen.
    pub fn set(&mut self, done: u64, message: impl Display) {
        let Some(line) = &mut self.line else { return };
        if done < line.next {
            return;
        }
        line.next = done.saturating_add(line.step);
        let message = message.to_string();
        let gap = if message.is_empty() { "" } else { " · " };
        line.bar.set_message(format!("{gap}{message}"));
        line.bar.set_position(done);
    }

    /// Takes the line away, so that what is printed next stands alone.
    pub fn finish(&mut self) {
        if let Some(line) = &mut self.line {
            line.bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn write_count(out: &mut dyn Write, counts: Counts, done: u64, total: Option<u64>) -> std::fmt::Result {
    match (counts, total) {
        (Counts::Time, Some(total)) => {
            let left = Duration::from_millis(total.saturating_sub(done));
            write!(out, "{:.1} s left", left.as_secs_f64())
        }
        (Counts::Time, None) => write!(out, "{:.1} s", Duration::from_millis(done).as_secs_f64()),
        (Counts::Things, Some(total)) => write!(out, "{} of {}", thousands(done), thousands(total)),
        (Counts::Things, None) => write!(out, "{}", thousands(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: Counts, done: u64, total: Option<u64>) -> String {
        let mut text = String::new();
        write_count(&mut text, counts, done, total).expect("a string takes all");
        text
    }

    #[test]
    fn clients_are_counted_and_time_runs_down() {
        assert_eq!(counted(Counts::Things, 1234, Some(18_000)), "1,234 of 18,000");
        assert_eq!(counted(Counts::Things, 1234, None), "1,234");
        assert_eq!(counted(Counts::Time, 1234, Some(5000)), "3.8 s left");
        assert_eq!(counted(Counts::Time, 6000, Some(5000)), "0.0 s left");
    }

    #[test]
    fn templates_are_valid() {
        for template in [TEMPLATE, ENDLESS_TEMPLATE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_even_put_into_words() {
        struct Dear;
        impl Display for Dear {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("put into words")
            }
        }
        let mut hidden = Progress::new(false);
        hidden.phase("connecting", 10);
        hidden.set(5, Dear);
        hidden.finish();

        let mut shown = Progress::on(ProgressDrawTarget::hidden);
        shown.phase("connecting", 40_000);
        shown.set(1000, "8,130/s");
        shown.set(1001, Dear);
        let line = shown.line.as_ref().expect("shown");
        assert_eq!((line.bar.position(), line.bar.message()), (1000, " · 8,130/s".to_owned()));
        shown.set(1100, "");
        assert_eq!(shown.line.as_ref().map(|line| line.bar.position()), Some(1100));
        shown.finish();
    }
}
