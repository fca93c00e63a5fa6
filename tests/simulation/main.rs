mod client;
#[path = "../relay/frames.rs"]
mod frames;
mod judge;
mod network;
mod perform;
mod plan;
mod tap;
mod world;

fn main() {
    let from: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let to: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(from + 1);
    let mut tally = judge::Tally::default();
    for seed in from..to {
        println!("seed {seed}");
        tally += world::World::run(&plan::Plan::from_seed(seed));
    }
    println!("{tally:?}");
}
