//! The kinds of faults.

/// Something that is done to a running farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// `kill -9` for the coordinator, which is started anew.
    KillCoordinator,
    /// `kill -9` for the spare coordinator.
    KillStandby,
    /// `kill -9` for a worker.
    KillWorker,
    /// `kill -9` for PostgreSQL's first process.
    KillPostgres,
    /// `kill -9` for one of PostgreSQL's processes that serve a connection.
    KillBackend,
    /// `kill -9` for Redis.
    KillRedis,
    /// PostgreSQL told to stop at once (`pg_ctl stop -m immediate`), and started again.
    RestartPostgres,
    /// The coordinator stands still (SIGSTOP) for longer than a lease's term, then goes on.
    StopCoordinator,
    /// A worker stands still for longer than a lease's term, then goes on.
    StopWorker,
    /// Nothing passes between two hosts.
    Cut,
    /// Nothing passes from one host to another, and all of it the other way.
    OneWay,
    /// A share of what two hosts send to one another is lost.
    Loss,
    /// What two hosts send to one another comes late.
    Delay,
    /// PostgreSQL's volume is full.
    PostgresDiskFull,
    /// A worker's volume is full.
    WorkerDiskFull,
    /// A transaction holds a snapshot for most of the round.
    Snapshot,
    /// The coordinator or a worker is killed, and its clock is an hour off from then on.
    Clock,
    /// Redis forgets everything.
    FlushRedis,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::KillCoordinator,
        Self::KillStandby,
        Self::KillWorker,
        Self::KillPostgres,
        Self::KillBackend,
        Self::KillRedis,
        Self::RestartPostgres,
        Self::StopCoordinator,
        Self::StopWorker,
        Self::Cut,
        Self::OneWay,
        Self::Loss,
        Self::Delay,
        Self::PostgresDiskFull,
        Self::WorkerDiskFull,
        Self::Snapshot,
        Self::Clock,
        Self::FlushRedis,
    ];

    /// The name on the command line and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KillCoordinator => "kill-coordinator",
            Self::KillStandby => "kill-standby",
            Self::KillWorker => "kill-worker",
            Self::KillPostgres => "kill-postgres",
            Self::KillBackend => "kill-backend",
            Self::KillRedis => "kill-redis",
            Self::RestartPostgres => "restart-postgres",
            Self::StopCoordinator => "stop-coordinator",
            Self::StopWorker => "stop-worker",
            Self::Cut => "cut",
            Self::OneWay => "one-way",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::PostgresDiskFull => "postgres-disk-full",
            Self::WorkerDiskFull => "worker-disk-full",
            Self::Snapshot => "snapshot",
            Self::Clock => "clock",
            Self::FlushRedis => "flush-redis",
        }
    }

    /// The fault called `name`.
    ///
    /// # Errors
    /// For any other name, with those that there are.
    pub fn from_name(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|fault| fault.as_str()).collect();
            format!("'{name}' is no fault; there are {}", known.join(", "))
        })
    }

    /// Whether it needs network namespaces.
    pub const fn is_of_network(self) -> bool {
        matches!(self, Self::Cut | Self::OneWay | Self::Loss | Self::Delay)
    }

    /// Whether a process dies of it by `kill -9`.
    pub const fn is_kill(self) -> bool {
        matches!(
            self,
            Self::KillCoordinator
                | Self::KillStandby
                | Self::KillWorker
                | Self::KillPostgres
                | Self::KillBackend
                | Self::KillRedis
                | Self::Clock
        )
    }
}
