//! Random operations against a model.

use super::dice::Dice;
use super::operations::run;

#[test]
fn no_order_of_events_loses_repeats_or_mixes_up_a_byte() {
    let seeds =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).map_or(0..300, |seed: u64| seed..seed + 1);
    for seed in seeds {
        // Printed on failure only.
        println!("SEED={seed} repeats it");
        run(Dice::seeded(seed));
    }
}
