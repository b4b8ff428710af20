//! A run: rounds one after another, each with the next seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use tempfile::TempDir;

use super::abilities::Abilities;
use super::client::Kind;
use super::fault::Fault;
use super::report::Report;
use super::round::{Outcome, Setting};
use super::servers::Postgres;

/// How a run is made.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Rounds to play
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub rounds: u64,

    /// The first round's seed; each next round's is one more
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// What to break, separated by commas; without it, everything that this machine allows
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Fault::from_name)]
    pub faults: Vec<Fault>,

    /// Begin no round after so many minutes
    #[arg(long, value_name = "M")]
    pub minutes: Option<u64>,

    /// Seconds of load in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub load: u64,

    /// Faults in each round, at most; at least half as many
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub most: u64,

    /// One round in so many has workers that render; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub real_every: u64,

    /// Make each host a network namespace, for faults of the network; needs root
    #[arg(long)]
    pub namespaces: bool,

    /// Start a second coordinator on the same database
    #[arg(long)]
    pub standby: bool,

    /// Write the report there, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Plays the rounds and prints the report; false if anything is not as it must be.
///
/// # Errors
/// If PostgreSQL cannot be had, or a fault that was asked for by name cannot happen here.
pub fn run(args: &RunArgs) -> Result<bool> {
    let folder = folder()?;
    let abilities = Abilities::find(folder.path(), args.namespaces, args.standby, args.real_every > 0);
    let menu = menu(args, &abilities)?;
    let postgres = Postgres::prepare(folder.path())?;
    let setting = Setting {
        abilities: &abilities,
        postgres: &postgres,
        menu,
        faults: (args.most.div_ceil(2), args.most),
        load_ms: args.load * 1000,
        standby: args.standby,
    };
    let mut run = Run {
        args,
        setting,
        folder: folder.path(),
        undisturbed: BTreeMap::new(),
        report: Report::new(args.seed, abilities.missing.clone()),
    };
    run.play();
    let report = run.report;
    print!("{}", report.text());
    if let Some(path) = &args.json {
        let json = serde_json::to_vec_pretty(&report.json())?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !report.failed.is_empty() {
        eprintln!("the folders of failed rounds are kept in {}", folder.keep().display());
    }
    Ok(report.is_clean())
}

/// A folder that also PostgreSQL's user may enter.
fn folder() -> Result<TempDir> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let mut builder = tempfile::Builder::new();
    builder.prefix("seedfarm-chaos-").permissions(mode).tempdir().context("no temporary folder can be made")
}

fn menu(args: &RunArgs, abilities: &Abilities) -> Result<Vec<Fault>> {
    for fault in &args.faults {
        if let Some(why) = abilities.missing.get(fault) {
            bail!("{} cannot happen: {why}", fault.as_str());
        }
    }
    let asked = |fault: &Fault| args.faults.is_empty() || args.faults.contains(fault);
    let here = |fault: &Fault| !abilities.missing.contains_key(fault);
    Ok(Fault::ALL.into_iter().filter(|fault| asked(fault) && here(fault)).collect())
}

struct Run<'a> {
    args: &'a RunArgs,
    setting: Setting<'a>,
    folder: &'a Path,
    /// Pixels by seed, of a farm of real workers that nothing happened to.
    undisturbed: BTreeMap<u64, String>,
    report: Report,
}

impl Run<'_> {
    fn play(&mut self) {
        let start = Instant::now();
        let limit = self.args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        for number in 0..self.args.rounds {
            if limit.is_some_and(|limit| start.elapsed() > limit) {
                break;
            }
            let seed = self.args.seed + number;
            let every = self.args.real_every;
            let real = every > 0 && number % every == every - 1;
            let kind = if real { Kind::Real } else { Kind::Cheap };
            self.report.rounds += 1;
            let began = Instant::now();
            match self.round(seed, kind) {
                Ok(outcome) => self.tell(seed, kind, &outcome, began.elapsed()),
                Err(error) => self.fail(seed, format!("{error:#}")),
            }
        }
    }

    fn round(&mut self, seed: u64, kind: Kind) -> Result<Outcome> {
        if kind == Kind::Real && self.undisturbed.is_empty() {
            let folder = self.fresh("undisturbed")?;
            let outcome = self.setting.play(&folder, seed, kind, true)?;
            let clean = outcome.verdict.faulty.is_clean();
            anyhow::ensure!(clean, "the undisturbed farm failed: {:?}", outcome.verdict.notes);
            self.undisturbed =
                outcome.verdict.images.into_iter().map(|seen| (seen.seed, seen.pixels)).collect();
        }
        let folder = self.fresh(&format!("round-{seed}"))?;
        let mut outcome = self.setting.play(&folder, seed, kind, false)?;
        if kind == Kind::Real {
            let verdict = &mut outcome.verdict;
            let other = |seen: &&super::client::Seen| self.undisturbed.get(&seen.seed) != Some(&seen.pixels);
            verdict.faulty.unequal += verdict.images.iter().filter(other).count() as u64;
        }
        if outcome.verdict.faulty.is_clean() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(outcome)
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    fn tell(&mut self, seed: u64, kind: Kind, outcome: &Outcome, took: Duration) {
        let broken: Vec<String> =
            outcome.broken.iter().map(|(fault, times)| format!("{} {times}", fault.as_str())).collect();
        let work = &outcome.verdict.work;
        eprintln!(
            "seed {seed} {kind:?}: {} images of {} jobs in {:.1} s; {}",
            work.images,
            work.jobs,
            took.as_secs_f64(),
            broken.join(", ")
        );
        self.report.add(outcome);
        let faulty = outcome.verdict.faulty;
        if !faulty.is_clean() {
            let notes: Vec<&String> = outcome.verdict.notes.iter().take(10).collect();
            self.fail(seed, format!("{faulty:?} {notes:?}"));
        }
    }

    fn fail(&mut self, seed: u64, why: String) {
        eprintln!(
            "seed {seed} FAILED: {why}\nits folder: {}",
            self.folder.join(format!("round-{seed}")).display()
        );
        self.report.failed.push((seed, why));
    }
}
