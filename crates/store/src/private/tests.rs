//! The traps of running PostgreSQL as somebody else's child, each provoked on a real server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tempfile::TempDir;

use super::*;

/// Names the data folder for [`starter_process`].
const STARTER_FOLDER: &str = "SEEDFARM_TEST_STARTER_FOLDER";

/// A folder that the server's user can reach even if root made it.
fn reachable_folder() -> TempDir {
    let folder = TempDir::new().expect("temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    folder
}

fn config(data_dir: impl Into<PathBuf>) -> PrivateConfig {
    PrivateConfig { data_dir: data_dir.into(), pg_bin: None, durability: Durability::Full }
}

async fn show(connection: &mut PgConnection, setting: &str) -> String {
    sqlx::query_scalar("select current_setting($1)")
        .bind(setting)
        .fetch_one(connection)
        .await
        .expect("setting")
}

async fn count_rows(options: &PgConnectOptions) -> i64 {
    let mut connection = options.connect().await.expect("connection");
    sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await.expect("count")
}

/// Another process that holds a cluster, as a coordinator does.
struct Starter {
    child: Child,
    /// Kept open, as the test harness in the child goes on writing to it.
    _output: BufReader<ChildStdout>,
    options: PgConnectOptions,
}

impl Starter {
    /// Runs `program`, a copy of this test program, with the environment that breaks careless
    /// launchers, as `user` if given, and waits until its cluster is ready.
    fn start(program: &Path, data_dir: &Path, user: Option<u32>) -> Self {
        let mut command = Command::new(program);
        command
            .args(["private::tests::starter_process", "--exact", "--ignored", "--nocapture"])
            .env(STARTER_FOLDER, data_dir)
            .envs([("LANG", "xx_XX.bogus"), ("LC_ALL", "en_US.UTF-9")])
            .envs([("PGHOST", "192.0.2.1"), ("PGHOSTADDR", "192.0.2.1")])
            .envs([("PGPORT", "1"), ("PGUSER", "nobody"), ("PGPASSWORD", "x")])
            .envs([("PGDATABASE", "none"), ("PGSSLMODE", "require")])
            .envs([("PGSSLROOTCERT", "/missing"), ("PGDATA", "/missing")])
            .envs([("PGAPPNAME", "other"), ("PGSERVICE", "none")])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().expect("starter");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let socket = output
            .by_ref()
            .lines()
            .map(|line| line.expect("text"))
            .find_map(|line| line.strip_prefix("socket: ").map(str::to_owned))
            .expect("the starter says where its socket is");
        let options = options(Path::new(&socket), DATABASE);
        Self { child, _output: output, options }
    }

    fn kill(mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("reaped");
    }

    fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("ended").success());
    }
}

/// Not a test of its own: the process that [`Starter`] runs. It holds a cluster until its
/// standard input ends.
#[tokio::test]
#[ignore = "run by other tests as a process of its own"]
async fn starter_process() {
    let Some(folder) = std::env::var_os(STARTER_FOLDER) else {
        return;
    };
    let cluster = PrivateCluster::start(config(folder)).await.expect("start");
    let mut connection = cluster.options().connect().await.expect("connection");
    let encoding = show(&mut connection, "server_encoding").await;
    assert_eq!(encoding, "UTF8");
    println!("socket: {}", cluster.socket_dir().display());
    std::io::stdout().flush().expect("flush");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    ended.await.expect("joined").expect("read");
    cluster.stop().await.expect("stop");
}

#[tokio::test]
async fn a_killed_starter_takes_its_server_along_and_loses_nothing() {
    let folder = reachable_folder();
    let this_program = std::env::current_exe().expect("own path");
    let starter = Starter::start(&this_program, folder.path(), None);
    let mut connection = starter.options.connect().await.expect("connection");
    sqlx::raw_sql("create table kept (n int); insert into kept select generate_series(1, 1000)")
        .execute(&mut connection)
        .await
        .expect("rows");

    let refusal = PrivateCluster::start(config(folder.path())).await.expect_err("held by the starter");
    assert!(refusal.to_string().contains(&format!("process {}", starter.child.id())), "{refusal}");

    starter.kill();
    let cluster = PrivateCluster::start(config(folder.path())).await.expect("takes over");
    assert_eq!(count_rows(&cluster.options()).await, 1000);

    let server = rustix::process::Pid::from_raw(cluster.server_pid() as i32).expect("a process");
    rustix::process::kill_process(server, rustix::process::Signal::KILL).expect("kill -9");
    drop(cluster);
    let cluster = PrivateCluster::start(config(folder.path())).await.expect("recovers");
    assert_eq!(count_rows(&cluster.options()).await, 1000);
    cluster.stop().await.expect("stop");
}

#[tokio::test]
async fn a_long_odd_path_and_an_interrupted_initdb_are_no_obstacle() {
    let folder = reachable_folder();
    let data_dir = folder.path().join(format!("a, \"b\" 'c' {}", "d".repeat(120)));
    let half_made = data_dir.join("postgres/pgdata.new/base/1");
    fs::create_dir_all(&half_made).expect("folders");
    fs::write(half_made.join("1234"), "half a table").expect("file");

    let cluster = PrivateCluster::start(config(&data_dir)).await.expect("start");
    let mut connection = cluster.options().connect().await.expect("connection");
    for (setting, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("TimeZone", "UTC"),
    ] {
        assert_eq!(show(&mut connection, setting).await, expected, "{setting}");
    }
    let line = cluster.describe();
    assert!(line.contains(&format!("private PostgreSQL {}", cluster.version())), "{line}");
    assert!(line.contains("fsync on") && line.contains("not replicated"), "{line}");
    let socket = cluster.socket_dir().to_path_buf();
    assert!(socket.starts_with("/tmp"), "{}", socket.display());
    let mode = fs::metadata(&socket).expect("socket folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    connection.close().await.expect("close");
    cluster.stop().await.expect("stop");
    assert!(!socket.exists(), "the folder below /tmp is removed");
    assert!(!data_dir.join("postgres/pgdata.new").exists());
}

#[tokio::test]
async fn a_stale_process_id_file_that_names_a_stranger_is_passed_over() {
    let folder = reachable_folder();
    let cluster = PrivateCluster::start(config(folder.path())).await.expect("start");
    cluster.stop().await.expect("stop");
    let pgdata = folder.path().join("postgres/pgdata");
    let account = Account::choose(&pgdata).expect("account");
    let mut stranger = Command::new("sleep");
    stranger.arg("600");
    account.apply(&mut stranger);
    let mut stranger = stranger.spawn().expect("a process of the server's user");

    let stale = pgdata.join("postmaster.pid");
    let text = format!("{}\n{}\n1700000000\n5432\n/gone\n\n 1 1\nready\n", stranger.id(), pgdata.display());
    fs::write(&stale, text).expect("stale file");
    account.give(&stale).expect("owner");

    let cluster = PrivateCluster::start(config(folder.path())).await.expect("starts all the same");
    cluster.stop().await.expect("stop");
    stranger.kill().expect("kill");
    stranger.wait().expect("reaped");

    // The same cluster serves to show that the server's own words reach the user.
    let settings = pgdata.join("postgresql.conf");
    fs::write(&settings, "no_such_setting = 1\n").expect("settings");
    let refusal = PrivateCluster::start(config(folder.path())).await.expect_err("refused");
    let text = refusal.to_string();
    assert!(text.contains("no_such_setting") && text.contains("server.log"), "{text}");
}

#[tokio::test]
async fn an_ordinary_user_can_start_a_cluster() {
    let folder = reachable_folder();
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().expect("own path"), &program).expect("copy");
    let data_dir = folder.path().join("data");
    fs::create_dir(&data_dir).expect("folder");
    // Root can become one; everybody else is one.
    let user = rustix::process::geteuid().is_root().then_some(65_534);
    if let Some(user) = user {
        std::os::unix::fs::chown(&data_dir, Some(user), Some(user)).expect("owner");
    }
    let starter = Starter::start(&program, &data_dir, user);
    let mut connection = starter.options.connect().await.expect("root may enter any folder");
    require_durable(&mut connection).await.expect("durable");
    connection.close().await.expect("close");
    starter.finish();
}

#[tokio::test]
async fn a_server_without_fsync_is_refused() {
    let folder = reachable_folder();
    let layout = Layout::below(folder.path()).expect("layout");
    let account = Account::choose(&layout.pgdata).expect("account");
    let binaries = binaries::find(None, None, &account).expect("binaries");
    layout.prepare(&account).expect("folders");
    let launch = Launch { binaries: &binaries, account: &account, layout: &layout };
    initdb::create_cluster(&launch).expect("cluster");
    let mut settings = server::settings(&layout.socket, Durability::Full);
    settings.push(("fsync", "off".to_owned()));
    let careless = Server::start(&launch, &settings).expect("server");
    let mut connection = options(&layout.socket, "postgres").connect().await.expect("connection");
    let refusal = require_durable(&mut connection).await.expect_err("not durable");
    assert!(matches!(refusal, ClusterError::NotDurable), "{refusal}");
    connection.close().await.expect("close");
    drop(careless);
}

#[tokio::test]
async fn a_folder_that_is_no_cluster_is_left_alone() {
    let folder = reachable_folder();
    let pgdata = folder.path().join("postgres/pgdata");
    fs::create_dir_all(&pgdata).expect("folders");
    fs::write(pgdata.join("precious.txt"), "mine").expect("file");
    let refusal = PrivateCluster::start(config(folder.path())).await.expect_err("refused");
    assert!(matches!(refusal, ClusterError::NotACluster { .. }), "{refusal}");
    assert_eq!(fs::read_to_string(pgdata.join("precious.txt")).expect("kept"), "mine");
}

#[test]
fn options_from_the_environment_are_refused_rather_than_obeyed() {
    refuse_ambient_options(None).expect("none");
    refuse_ambient_options(Some(" ".to_owned())).expect("blank");
    let refusal = refuse_ambient_options(Some("-c search_path=x".to_owned())).expect_err("set");
    assert!(refusal.to_string().contains("search_path=x"), "{refusal}");
}
