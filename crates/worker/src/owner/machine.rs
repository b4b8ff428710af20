//! Sensors that are files: the processor's temperature and power, its use by others, terminals.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use seedfarm_core::owner::Reading;

/// Drivers in `/sys/class/hwmon` that measure processors.
const CPU_DRIVERS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];
/// Zones in `/sys/class/thermal` that are processors.
const CPU_ZONES: [&str; 5] = ["x86_pkg_temp", "cpu-thermal", "cpu_thermal", "cpu-0-0-usr", "soc_thermal"];

/// Where a machine's sensors and programs are found.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
    /// CUDA_VISIBLE_DEVICES.
    pub(super) visible: Option<String>,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self { root: PathBuf::from("/"), visible: std::env::var("CUDA_VISIBLE_DEVICES").ok() }
    }

    /// A machine whose `/sys`, `/proc`, `/dev` and `/run` lie in a folder, and whose programs in `bin` there.
    pub fn under(root: &Path) -> Self {
        Self { root: root.to_owned(), visible: None }
    }

    /// A program's name or path.
    pub(super) fn program(&self, name: &str) -> OsString {
        if self.root == Path::new("/") { name.into() } else { self.root.join("bin").join(name).into() }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Milliseconds since a key was pressed in any terminal, to the nearest 8 seconds while typing goes on:
    /// the kernel notes no more.
    pub(super) fn terminals(&self, now: SystemTime) -> Reading<Option<u64>> {
        let numbered = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let virtual_consoles = entries(&self.root.join("dev"))
            .into_iter()
            .filter(|path| name_of(path).strip_prefix("tty").is_some_and(numbered));
        let pseudo = entries(&self.root.join("dev/pts")).into_iter().filter(|path| numbered(name_of(path)));
        let read = virtual_consoles.chain(pseudo).filter_map(|path| fs::metadata(path).ok()?.accessed().ok());
        let since = read.max().map(|newest| now.duration_since(newest).unwrap_or_default());
        Ok(since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The hottest part of the processor, in degrees Celsius.
    pub(super) fn cpu_temperature(&self) -> Reading<f64> {
        let chips = entries(&self.root.join("sys/class/hwmon")).into_iter();
        let chips = chips.filter(|chip| CPU_DRIVERS.contains(&text(&chip.join("name")).as_str()));
        let inputs = chips
            .flat_map(|chip| entries(&chip))
            .filter(|path| name_of(path).starts_with("temp") && name_of(path).ends_with("_input"));
        let zones = entries(&self.root.join("sys/class/thermal")).into_iter();
        let zones = zones.filter(|zone| CPU_ZONES.contains(&text(&zone.join("type")).as_str()));
        let files = inputs.chain(zones.map(|zone| zone.join("temp")));
        let millis = files.filter_map(|path| text(&path).parse::<f64>().ok());
        let hottest = millis.reduce(f64::max).map(|millis| millis / 1000.0);
        hottest.ok_or_else(|| {
            "no sensor of the processor is in /sys/class/hwmon or /sys/class/thermal".to_owned()
        })
    }

    /// Energy that the processor has taken, package by package, and where each counter starts again, in
    /// microjoules.
    fn cpu_energy(&self) -> Reading<Vec<(u64, u64)>> {
        let zones = entries(&self.root.join("sys/class/powercap")).into_iter();
        let packages: Vec<PathBuf> =
            zones.filter(|zone| text(&zone.join("name")).starts_with("package")).collect();
        if packages.is_empty() {
            return Err("no package of the processor is in /sys/class/powercap".to_owned());
        }
        let read = |package: &PathBuf| {
            let number = |file: &str| {
                let path = package.join(file);
                text(&path)
                    .parse::<u64>()
                    .map_err(|_| format!("{} cannot be read: on most systems only root may", path.display()))
            };
            Ok((number("energy_uj")?, number("max_energy_range_uj")?))
        };
        packages.iter().map(read).collect()
    }

    /// Ticks of all processors together, busy ones, and those of this process with its children.
    fn cpu_ticks(&self) -> Reading<Ticks> {
        let unknown = || "/proc/stat cannot be read".to_owned();
        let stat = text(&self.root.join("proc/stat"));
        let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or_else(unknown)?;
        // Guests are counted in `user` and `nice` already.
        let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|n| n.parse().ok()).collect();
        let [_, _, _, idle, waiting, ..] = ticks[..] else { return Err(unknown()) };
        let own = text(&self.root.join("proc/self/stat"));
        // The program's name may hold anything but its last bracket.
        let fields = own.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let own: u64 = fields.skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum();
        let total: u64 = ticks.iter().sum();
        Ok(Ticks { total, busy: total - idle - waiting, own })
    }
}

#[derive(Debug, Clone, Copy)]
struct Ticks {
    total: u64,
    busy: u64,
    own: u64,
}

/// The use of the processor by other programs, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct LoadMeter {
    before: Option<Ticks>,
    percent: Option<f64>,
}

/// Ticks over which use is measured at least: about a second of one processor.
const LOAD_TICKS: u64 = 100;

impl LoadMeter {
    /// Whether there is a measurement.
    pub(super) const fn is_ready(&self) -> bool {
        self.percent.is_some()
    }

    /// Percent of all processors that others use.
    pub(super) fn others(&mut self, machine: &Machine) -> Reading<f64> {
        let now = machine.cpu_ticks()?;
        let before = *self.before.get_or_insert(now);
        let total = now.total.saturating_sub(before.total);
        if total >= LOAD_TICKS {
            let busy = now.busy.saturating_sub(before.busy);
            let others = busy.saturating_sub(now.own.saturating_sub(before.own));
            self.percent = Some(100.0 * others as f64 / total as f64);
            self.before = Some(now);
        }
        self.percent.ok_or_else(|| "it is not measured yet".to_owned())
    }
}

/// The processor's power, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct PowerMeter {
    before: Option<(Instant, Vec<(u64, u64)>)>,
}

impl PowerMeter {
    /// Watts since the last look.
    pub(super) fn watts(&mut self, machine: &Machine, now: Instant) -> Reading<f64> {
        let energy = machine.cpu_energy()?;
        let before = self.before.replace((now, energy.clone()));
        let (then, before) = before.ok_or_else(|| "it is not measured yet".to_owned())?;
        let joules: f64 = energy.iter().zip(&before).map(|(now, before)| taken(*now, *before)).sum();
        Ok(joules / now.duration_since(then).as_secs_f64().max(0.001))
    }
}

/// Joules between two readings of one counter, which may have started again once.
fn taken((now, range): (u64, u64), (before, _): (u64, u64)) -> f64 {
    let micros = if now >= before { now - before } else { now + range.saturating_sub(before) };
    micros as f64 / 1e6
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The text of a small file without its end; nothing where it cannot be read.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
