//! `cargo xtask everywhere`: strict numerics in debug and release, on other x86-64 processors, on
//! arm64, and with other first-level caches than this machine has.
//!
//! Nothing is compared here. The tests hold every kernel against the scalar definition, and kernels
//! and whole images against committed digests; this command takes the tests to other places.

mod arm64;
mod cache;
mod packages;
mod suite;

use std::time::Instant;

use anyhow::bail;

use self::suite::{Outcome, Suite};

/// Where a suite is run.
struct Place {
    name: String,
    /// What comes before the executable and its arguments.
    runner: Vec<String>,
    /// The instruction sets that the tests must find there; unknown of this machine.
    isas: Option<&'static str>,
}

impl Place {
    fn here() -> Self {
        Self { name: "this machine".to_owned(), runner: Vec::new(), isas: None }
    }

    fn emulated(name: &str, runner: &[&str], isas: &'static str) -> Self {
        let runner = runner.iter().map(|&word| word.to_owned()).collect();
        Self { name: name.to_owned(), runner, isas: Some(isas) }
    }
}

/// Runs it all and prints a table; `images` adds whole images on arm64, for which the engine is
/// built a second time.
///
/// # Errors
/// If anything differs, does not run or is missing.
pub fn run(images: bool) -> anyhow::Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("this machine is {}; `cargo xtask everywhere` starts from x86-64", std::env::consts::ARCH);
    }
    packages::install_missing()?;
    let begun = Instant::now();
    let mut table = Table::default();
    on_x86(&mut table)?;
    on_arm64(&mut table, images)?;
    table.print();
    eprintln!("everywhere: {:.0} s", begun.elapsed().as_secs_f64());
    if table.failures() > 0 {
        bail!("{} of {} runs did not pass", table.failures(), table.rows.len());
    }
    Ok(())
}

fn on_x86(table: &mut Table) -> anyhow::Result<()> {
    let debug = Suite::numerics("numerics, debug").build(|cargo| cargo)?;
    let numerics = Suite::numerics("numerics").build(|cargo| cargo.arg("--release"))?;
    let few = numerics.without(&["products", "convolutions", "attention"]);
    let images = Suite::images("images").build(|cargo| cargo.arg("--release"))?;
    let small = images.of_small_models();
    let here = Place::here();
    for suite in [&numerics, &debug, &images] {
        table.add(&here, suite);
    }
    for geometry in cache::GEOMETRIES {
        let (runner, _made_up) = cache::runner(&geometry)?;
        let place = Place { name: format!("this machine, {geometry}"), runner, isas: None };
        table.add(&place, &numerics);
        table.add(&place, &small);
    }
    let haswell = ["qemu-x86_64", "-cpu", "Haswell"];
    let haswell = Place::emulated("x86-64 with AVX2, emulated", &haswell, "portable avx2");
    table.add(&haswell, &numerics);
    table.add(&haswell, &small);
    // Each fused multiply-add in software, and that in an emulator: the largest tests would take
    // minutes, and `specification` has these kernels too.
    let nehalem = ["qemu-x86_64", "-cpu", "Nehalem"];
    table.add(&Place::emulated("x86-64 without FMA, emulated", &nehalem, "portable"), &few);
    Ok(())
}

fn on_arm64(table: &mut Table, images: bool) -> anyhow::Result<()> {
    let toolchain = arm64::Toolchain::find()?;
    let place = Place::emulated("arm64, emulated", &["qemu-aarch64"], "portable neon");
    table.add(&place, &Suite::numerics("numerics, arm64").build(|cargo| toolchain.adapt(cargo))?);
    if images {
        let images = Suite::images("images, arm64").build(|cargo| toolchain.adapt(cargo))?;
        table.add(&place, &images.of_small_models());
    }
    Ok(())
}

/// What ran where, and what came of it.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

struct Row {
    place: String,
    suite: String,
    seconds: f64,
    outcome: Outcome,
}

impl Table {
    /// Runs a suite in a place, and says so.
    fn add(&mut self, place: &Place, suite: &Suite) {
        let begun = Instant::now();
        let outcome = suite.run(&place.runner, place.isas);
        let row = Row {
            place: place.name.clone(),
            suite: suite.name.clone(),
            seconds: begun.elapsed().as_secs_f64(),
            outcome,
        };
        eprintln!("{}: {}: {} ({:.1} s)", row.place, row.suite, row.outcome, row.seconds);
        self.rows.push(row);
    }

    fn failures(&self) -> usize {
        self.rows.iter().filter(|row| !row.outcome.passed()).count()
    }

    fn print(&self) {
        let wide = |text: fn(&Row) -> &str| self.rows.iter().map(|row| text(row).len()).max().unwrap_or(0);
        let (places, suites) = (wide(|row| &row.place), wide(|row| &row.suite));
        println!();
        for row in &self.rows {
            let verdict = if row.outcome.passed() { "same bits" } else { "FAILED" };
            let Row { place, suite, outcome, .. } = row;
            println!("{place:places$}  {suite:suites$}  {verdict:9}  {outcome}");
        }
    }
}
