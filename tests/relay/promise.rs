//! Clients that do anything at random, and what the relay owes them.

use super::dice::Dice;
use super::model::Model;

const STEPS: usize = 400;
const SEEDS: u64 = 300;

#[test]
fn whatever_clients_do_each_frame_is_delivered_refused_or_counted() {
    let mut sums = [0; 7];
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(Dice::seeded(seed));
            model.play(STEPS);
            let tally = &model.judge.tally;
            [tally.queued, tally.written, tally.refused, tally.skipped, tally.lost, tally.gaps, tally.full]
        });
        match run {
            Ok(tally) => sums.iter_mut().zip(tally).for_each(|(sum, count)| *sum += count),
            Err(panic) => {
                eprintln!("the seed is {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("queued, written, refused, skipped, lost, gaps, full: {sums:?}");
    assert!(sums.iter().all(|sum| *sum > 50), "every fate is met: {sums:?}");
}
