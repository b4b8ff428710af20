//! A day of a render farm, replayed against this placement and against first-come placement.
//!
//! `cargo bench -p seedfarm-core --bench simulator`. The day is made from a seed and the parameters in `day.rs`:
//! some tenants of different weight, models as popular as Zipf says, single pictures that somebody waits for, and
//! bulk jobs in bursts. It prints how often devices had what they needed loaded, what swaps took, how long
//! jobs waited, and how device time was shared.

mod day;
mod farm;
mod policy;
#[path = "../random.rs"]
mod random;
mod report;

use day::Day;
use policy::{FirstCome, Placement};

const SEEDS: [u64; 3] = [1, 2, 3];

fn main() {
    let mut halved = true;
    for seed in SEEDS {
        let day = Day::new(seed);
        println!("day {seed}: {}", day.describe());
        let first_come = farm::run(&day, FirstCome::new(&day));
        let placement = farm::run(&day, Placement::new(&day));
        report::print(&day, &[("first come", &first_come), ("placement", &placement)]);
        let ratio = placement.swaps as f64 / first_come.swaps.max(1) as f64;
        halved &= ratio <= 0.5;
        println!(
            "{} cold swaps are {:.0} % of those of first-come placement\n",
            mark(ratio <= 0.5),
            ratio * 100.0
        );
    }
    println!("{} cold swaps at least halved on every day", mark(halved));
}

fn mark(holds: bool) -> &'static str {
    if holds { "ok  " } else { "MISS" }
}
