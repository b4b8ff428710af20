//! A database that outlives the coordinators of a test.

use seedfarm_store::testing::TestDatabase;
use tokio::runtime::Runtime;

/// A database of a test's own; its server is shared by the tests of a process.
pub struct Database {
    database: TestDatabase,
    /// Keeps what the server was started with.
    _runtime: Runtime,
}

impl Database {
    /// Creates it.
    pub fn create() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        Self { database: runtime.block_on(TestDatabase::create()), _runtime: runtime }
    }

    /// As `DATABASE_URL` names it.
    pub fn url(&self) -> String {
        let options = self.database.options();
        let (user, port) = (options.get_username(), options.get_port());
        let name = options.get_database().expect("a test's database has a name");
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        format!("postgres://{user}@localhost:{port}/{name}?host={host}")
    }
}
