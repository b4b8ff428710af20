use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use seedfarm_core::owner::{Pattern, Watch};
use tempfile::TempDir;

use super::file::Edits;
use super::machine::{LoadMeter, PowerMeter};
use super::*;

/// A folder that stands for a machine.
fn root() -> TempDir {
    TempDir::new().unwrap()
}

fn put(root: &TempDir, path: &str, text: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn program(root: &TempDir, name: &str, script: &str) {
    put(root, &format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
    let file = root.path().join("bin").join(name);
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn read(text: &str) -> Result<Limits, String> {
    let folder = root();
    put(&folder, "worker/owner.toml", text);
    LimitsFile::locate(folder.path(), None).read().map_err(|error| error.to_string())
}

#[test]
fn the_example_limits_nothing_until_its_lines_are_taken_into_use() {
    assert_eq!(read(EXAMPLE), Ok(Limits::default()));
    // Comments that are no settings begin with a space.
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') || rest.starts_with("  {") => rest.to_owned(),
        _ => line.to_owned(),
    });
    let limits = read(&lines.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(limits.hours.len(), 2);
    assert_eq!(limits.idle.unwrap().watch.unwrap()[2], Watch::GpuPrograms);
    assert_eq!((limits.temperature.unwrap().max_c, limits.power.unwrap().max_watts), (80.0, 250.0));
    assert_eq!((limits.cpu.threads, limits.cpu.nice), (Some(4), Some(19)));
    assert_eq!(limits.models.refuse, [Pattern("*-nsfw".into())]);
    assert_eq!((limits.jobs.max_pixels, limits.jobs.max_steps), (Some(1_048_576), Some(60)));
    assert_eq!((limits.memory.unwrap().0, limits.disk.unwrap().0), (8 << 30, 50 << 30));
    assert_eq!((limits.devices.unwrap(), limits.tags.len()), (vec!["cuda:0".to_owned()], 2));
    assert!(limits.pause_file.is_some() && limits.own_jobs_first.len() == 1);
}

#[test]
fn a_mistake_is_told_with_its_line_and_the_way_out() {
    let cases = [
        ("\n\nhuors = []\n", "line 3: unknown field `huors`"),
        ("[idle]\nafter_minutes = \"ten\"\n", "line 2: "),
        ("hours = [{ from = \"25:00\" }]\n", "'25:00' is no time of day"),
        ("memory = \"lots\"\n", "'lots' is no amount of bytes"),
        ("tags = [\"A B\"]\n", "'A B'"),
        ("devices = [\"gpu\"]\n", "devices names 'gpu': known are cpu"),
        ("[temperature]\nmax_c = 500\n", "temperature.max_c is 500"),
        ("[jobs]\nrefuse = [\"cats\"]\n", "unknown variant `cats`"),
        ("memory = -1\n", "-1"),
        ("nothing", "line 1: "),
    ];
    for (text, words) in cases {
        let error = read(text).unwrap_err();
        assert!(error.contains(words) && error.contains("owner.toml"), "{error}");
    }
}

#[test]
fn a_file_that_was_named_must_be_there_and_the_usual_one_need_not() {
    let folder = root();
    assert_eq!(LimitsFile::locate(folder.path(), None).read().unwrap(), Limits::default());
    let named = folder.path().join("mine.toml");
    let error = LimitsFile::locate(folder.path(), Some(&named)).read().unwrap_err();
    assert!(error.to_string().contains("mine.toml"), "{error}");
}

#[test]
fn an_edit_is_read_once_when_it_has_settled_and_a_file_that_is_gone_is_told_once() {
    let folder = root();
    put(&folder, "worker/owner.toml", "");
    let (mut edits, _) = Edits::begin(LimitsFile::locate(folder.path(), None)).unwrap();
    assert!(edits.poll().is_none());
    put(&folder, "worker/owner.toml", "tags = [\"a\"]\n");
    assert!(edits.poll().is_none());
    assert_eq!(edits.poll().unwrap().unwrap().tags.len(), 1);
    assert!(edits.poll().is_none());
    fs::remove_file(folder.path().join("worker/owner.toml")).unwrap();
    assert!(edits.poll().is_none());
    assert!(matches!(edits.poll(), Some(Err(LimitsError::Gone { .. }))));
    assert!(edits.poll().is_none());
}

fn touch(path: &Path, accessed: SystemTime) {
    let times = FileTimes::new().set_accessed(accessed).set_modified(SystemTime::now());
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn typing_shows_in_the_terminals_times_and_what_they_print_does_not() {
    let folder = root();
    let machine = Machine::under(folder.path());
    let now = SystemTime::now();
    assert_eq!(machine.terminals(now), Ok(None));
    for (name, seconds) in [("pts/3", 500), ("pts/12", 90), ("tty1", 4000), ("pts/ptmx", 0), ("ttyS0", 0)] {
        put(&folder, &format!("dev/{name}"), "");
        touch(&folder.path().join("dev").join(name), now - Duration::from_secs(seconds));
    }
    let since = machine.terminals(now).unwrap().unwrap();
    assert_eq!(since, 90_000);
}

#[test]
fn the_processors_heat_is_its_hottest_sensor_and_no_other_chips() {
    let folder = root();
    let machine = Machine::under(folder.path());
    assert!(machine.cpu_temperature().unwrap_err().contains("/sys/class/hwmon"));
    put(&folder, "sys/class/hwmon/hwmon0/name", "nvme\n");
    put(&folder, "sys/class/hwmon/hwmon0/temp1_input", "99000\n");
    put(&folder, "sys/class/hwmon/hwmon1/name", "coretemp\n");
    put(&folder, "sys/class/hwmon/hwmon1/temp1_input", "51000\n");
    put(&folder, "sys/class/hwmon/hwmon1/temp2_input", "64500\n");
    put(&folder, "sys/class/hwmon/hwmon1/temp2_max", "100000\n");
    assert_eq!(machine.cpu_temperature(), Ok(64.5));
}

#[test]
fn the_processors_power_is_its_energy_over_time_also_when_the_counter_starts_again() {
    let folder = root();
    let (machine, mut meter, begun) = (Machine::under(folder.path()), PowerMeter::default(), Instant::now());
    assert!(meter.watts(&machine, begun).unwrap_err().contains("powercap"));
    put(&folder, "sys/class/powercap/intel-rapl:0/name", "package-0\n");
    put(&folder, "sys/class/powercap/intel-rapl:0/max_energy_range_uj", "100000000\n");
    assert!(meter.watts(&machine, begun).unwrap_err().contains("root"));
    let mut at = |seconds, energy: &str| {
        put(&folder, "sys/class/powercap/intel-rapl:0/energy_uj", energy);
        meter.watts(&machine, begun + Duration::from_secs(seconds))
    };
    assert!(at(0, "40000000\n").unwrap_err().contains("not measured yet"));
    assert_eq!(at(2, "90000000\n"), Ok(25.0));
    assert_eq!(at(4, "10000000\n"), Ok(10.0));
}

#[test]
fn the_load_of_others_is_what_this_program_does_not_take() {
    let folder = root();
    let (machine, mut meter) = (Machine::under(folder.path()), LoadMeter::default());
    assert!(meter.others(&machine).is_err());
    let mut at = |user: u64, idle: u64, own: u64| {
        put(&folder, "proc/stat", &format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1\n"));
        put(&folder, "proc/self/stat", &format!("7 (a ) b) S 1 1 1 0 0 0 0 0 0 0 {own} 0 0 0 20 0\n"));
        meter.others(&machine)
    };
    assert!(at(1000, 1000, 500).is_err());
    assert_eq!(at(1150, 1050, 600), Ok(25.0));
    // Too little time has passed: the last measurement stands.
    assert_eq!(at(1160, 1051, 600), Ok(25.0));
}

#[test]
fn what_nvidia_smi_prints_is_read_for_the_card_that_cuda_means() {
    let printed = "0, GPU-aa, 41, 30.55\n1, GPU-bb, 77, [N/A]\n";
    let first = nvidia::gpu(printed, 0, None).unwrap();
    assert_eq!((first.id.as_str(), first.temperature_c, first.watts), ("GPU-aa", Ok(41.0), Ok(30.55)));
    for visible in ["1", "GPU-b", " 1, 0"] {
        let second = nvidia::gpu(printed, 0, Some(visible)).unwrap();
        assert_eq!((second.temperature_c, second.id.as_str()), (Ok(77.0), "GPU-bb"));
        assert!(second.watts.unwrap_err().contains("no power of cuda:0"));
    }
    assert!(nvidia::gpu(printed, 2, None).unwrap_err().contains("no GPU for cuda:2"));
    assert!(nvidia::gpu("", 0, None).is_err());
    assert!(nvidia::has_others("GPU-aa, 100\n", "GPU-aa", 7));
    assert!(!nvidia::has_others("GPU-aa, 7\nGPU-bb, 100\n", "GPU-aa", 7));
}

#[test]
fn logind_says_whether_and_since_when_nobody_is_there() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    assert_eq!(logind::since_ms("b false\nt 0\n", now), Ok(Some(0)));
    assert_eq!(logind::since_ms("b true\nt 940000000\n", now), Ok(Some(60_000)));
    assert_eq!(logind::since_ms("b true\nt 0\n", now), Ok(None));
    assert!(logind::since_ms("what?", now).is_err());
}

async fn measured(root: &TempDir, limits: &str, device: &str) -> (Observations, DeviceObservations) {
    let limits = read(limits).unwrap();
    let machine = Machine::under(root.path());
    let (seen, mut here) = measure(&machine, &limits, root.path(), &[device.to_owned()]).await;
    (seen, here.remove(0))
}

#[tokio::test]
async fn programs_are_asked_where_a_limit_needs_them() {
    let folder = root();
    program(
        &folder,
        "nvidia-smi",
        "case $1 in *gpu=*) echo '0, GPU-aa, 71, 200.5';; *) echo 'GPU-aa, 1';; esac",
    );
    program(&folder, "busctl", "echo 'b false'; echo 't 0'");
    let limits = "[idle]\nwatch = [\"logind\", \"gpu-programs\"]\nbusy_command = \"exit 3\"\n[temperature]\nmax_c = 80\n";
    let (seen, gpu) = measured(&folder, limits, "cuda:0").await;
    let since: Vec<_> = seen.signs.iter().map(|sign| (sign.source.as_str(), sign.since_ms.clone())).collect();
    assert_eq!(since, [("logind", Ok(Some(0))), ("busy_command", Ok(None))]);
    assert_eq!((gpu.temperature_c, gpu.signs[0].since_ms.clone()), (Ok(71.0), Ok(Some(0))));
    let (seen, gpu) = measured(&folder, "", "cuda:0").await;
    assert!(seen.signs.is_empty() && gpu.signs.is_empty() && gpu.temperature_c.is_err());
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_and_never_taken_for_nobody() {
    let folder = root();
    let (seen, gpu) = measured(&folder, "[idle]\n[temperature]\nmax_c = 80\n", "cuda:0").await;
    assert!(seen.signs[0].since_ms.as_ref().unwrap_err().contains("give a busy_command"), "{seen:?}");
    assert!(gpu.temperature_c.unwrap_err().contains("nvidia-smi cannot be run"));
    let (seen, _) = measured(&folder, "[idle]\nbusy_command = \"/nowhere/program\"\n", "cpu").await;
    assert!(seen.signs[0].since_ms.as_ref().unwrap_err().contains("code 127"), "{seen:?}");
    let (seen, _) = measured(&folder, "[idle]\nwatch = [\"logind\"]\n", "cpu").await;
    assert!(seen.signs[0].since_ms.as_ref().unwrap_err().contains("busctl cannot be run"), "{seen:?}");
}
