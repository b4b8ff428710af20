//! A day's outcome, side by side.

use crate::day::{Day, WEIGHTS};
use crate::farm::Outcome;

pub fn print(day: &Day, outcomes: &[(&str, &Outcome)]) {
    print!("{:<44}", "");
    outcomes.iter().for_each(|(name, _)| print!("{name:>14}"));
    println!();
    row("leases", outcomes, |outcome| outcome.leases.to_string());
    row("found what they needed loaded", outcomes, |outcome| {
        format!("{:.1} %", 100.0 * (1.0 - outcome.swaps as f64 / outcome.leases as f64))
    });
    row("cold swaps", outcomes, |outcome| outcome.swaps.to_string());
    row("device time lost to swaps", outcomes, |outcome| {
        format!("{:.1} %", 100.0 * outcome.swapping_ms as f64 / outcome.busy_ms as f64)
    });
    row("interactive wait p50, p99", outcomes, |outcome| waits(&outcome.interactive_waits));
    row("bulk wait p50, p99", outcomes, |outcome| waits(&outcome.bulk_waits));
    row("last image done after", outcomes, |outcome| format!("{:.1} h", outcome.end_ms as f64 / 3.6e6));
    row("device time had for entitled, least, most", outcomes, |outcome| {
        let ratios = outcome
            .shares
            .iter()
            .filter(|(_, entitled)| *entitled > 0.0)
            .map(|(had, entitled)| had / entitled);
        let (least, most) =
            ratios.fold((f64::MAX, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
        format!("{least:.2}, {most:.2}")
    });
    assert_eq!(WEIGHTS.len(), outcomes[0].1.shares.len());
    let waited = |outcome: &Outcome| outcome.interactive_waits.len() + outcome.bulk_waits.len();
    for (name, outcome) in outcomes {
        assert_eq!(waited(outcome), day.jobs.len(), "{name} forgot a job");
    }
}

fn row(what: &str, outcomes: &[(&str, &Outcome)], value: impl Fn(&Outcome) -> String) {
    print!("{what:<44}");
    outcomes.iter().for_each(|(_, outcome)| print!("{:>14}", value(outcome)));
    println!();
}

fn waits(sorted: &[i64]) -> String {
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    format!("{:.0}, {:.0} s", at(0.5), at(0.99))
}
