//! The bus between processes, over Redis publish and subscribe.
//!
//! Events reach subscribers of the same process directly, whatever Redis does. Two tasks serve
//! the others: one sends what [`Outbox`] holds, one listens. Each reconnects by itself, and after
//! each gap the subscribers concerned are told that they [missed](super::Delivery::Missed)
//! something.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError};
use seedfarm_core::id::JobId;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::local::{LocalBus, Subscription};
use super::message::{CHANNEL, Message, Origin, event, missed, read, shared};
use super::outbox::{Batch, Outbox};
use super::status::{Side, Status};
use super::{Bus, BusError, MAX_PAYLOAD};

/// How long Redis may take to accept a connection or to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two questions whether the listening connection still stands: a broken network does
/// not close it.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Pause before the first and the longest pause before a later attempt to connect again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Carries events between processes that share a Redis server.
///
/// Without Redis it works as [`LocalBus`] does. Dropping it ends its tasks.
#[derive(Debug)]
pub struct RedisBus {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    client: Client,
    channel: String,
    origin: Origin,
    local: LocalBus,
    outbox: Outbox,
    status: Status,
}

impl RedisBus {
    /// Sets up the bus on the server at `url`, such as `redis://host:6379` or
    /// `redis+unix:///run/redis.sock`. It connects in the background: a server that is away is
    /// waited for.
    ///
    /// # Errors
    /// [`BusError::Address`] if `url` cannot be understood.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(url: &str) -> Result<Self, BusError> {
        Self::open_on(url, CHANNEL)
    }

    pub(super) fn open_on(url: &str, channel: &str) -> Result<Self, BusError> {
        let client =
            client(url).map_err(|source| BusError::Address { url: without_password(url), source })?;
        let shared = Arc::new(Shared {
            client,
            channel: channel.to_owned(),
            origin: RandomState::new().hash_one(std::process::id()).to_le_bytes(),
            local: LocalBus::new(),
            outbox: Outbox::default(),
            status: Status::new(),
        });
        let tasks = [
            tokio::spawn(Arc::clone(&shared).keep(Side::Publishing)),
            tokio::spawn(Arc::clone(&shared).keep(Side::Listening)),
        ];
        Ok(Self { shared, tasks })
    }

    /// Whether Redis is reachable now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.status.is_up()
    }

    /// Waits until Redis is reachable, with no limit.
    pub async fn connected(&self) {
        self.shared.status.wait_until_up().await;
    }
}

impl Bus for RedisBus {
    fn publish(&self, job: JobId, payload: Arc<[u8]>) {
        if payload.len() > MAX_PAYLOAD {
            self.shared.outbox.mark_lost();
        } else {
            let message = event(self.shared.origin, job, &payload);
            self.shared.outbox.push(message);
        }
        self.shared.local.publish(job, payload);
    }

    fn subscribe(&self, job: JobId) -> Subscription {
        self.shared.local.subscribe(job)
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    /// Keeps one connection going, until aborted.
    async fn keep(self: Arc<Self>, side: Side) {
        let (shortest, longest) = RETRY;
        let mut pause = shortest;
        loop {
            let ended = match side {
                Side::Publishing => self.send_all().await,
                Side::Listening => self.listen().await,
            };
            if self.status.was_up(side) {
                pause = shortest;
            }
            self.status.down(side, &ended);
            sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }

    /// Sends until the connection breaks. Returns why.
    async fn send_all(&self) -> RedisError {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = match connection.await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        self.status.up(Side::Publishing);
        loop {
            let batch = self.outbox.take().await;
            if let Err(error) = self.send(&mut connection, batch).await {
                // Some of the batch may have arrived; which, nobody knows.
                self.outbox.mark_lost();
                return error;
            }
        }
    }

    async fn send(&self, connection: &mut MultiplexedConnection, batch: Batch) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        if batch.lost {
            pipeline.publish(&self.channel, missed(self.origin)).ignore();
        }
        for message in batch.messages {
            pipeline.publish(&self.channel, message).ignore();
        }
        pipeline.query_async(connection).await
    }

    /// Listens until the connection breaks. Returns why.
    async fn listen(&self) -> RedisError {
        match self.listen_until_error().await {
            Err(error) => error,
            Ok(()) => RedisError::from((ErrorKind::Io, "the server closed the connection")),
        }
    }

    async fn listen_until_error(&self) -> Result<(), RedisError> {
        let mut connection = in_time(self.client.get_async_pubsub()).await?;
        in_time(connection.subscribe(&self.channel)).await?;
        let (mut requests, mut messages) = connection.split();
        // What was published while nobody listened is gone.
        self.local.tell_all_missed();
        self.status.up(Side::Listening);
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.deliver(message.get_payload_bytes()),
                    None => return Ok(()),
                },
                _ = ping.tick() => in_time(requests.ping::<redis::Value>()).await.map(drop)?,
            }
        }
    }

    fn deliver(&self, bytes: &[u8]) {
        match read(bytes, self.origin) {
            Some(Message::Event { job, payload }) => self.local.publish(job, shared(payload)),
            Some(Message::Missed) => self.local.tell_all_missed(),
            None => {}
        }
    }
}

fn client(url: &str) -> Result<Client, RedisError> {
    // Small messages must not wait for more to fill a packet.
    let tcp = TcpSettings::default().set_nodelay(true);
    Client::open(url.into_connection_info()?.set_tcp_settings(tcp))
}

async fn in_time<T>(answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    let late = |_| RedisError::from((ErrorKind::Io, "the server did not answer in time"));
    timeout(PATIENCE, answer).await.map_err(late)?
}

/// For messages: what lies between `//` and the last `@` is a name and a password.
fn without_password(url: &str) -> String {
    match (url.split_once("//"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}//***@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_refused_without_telling_its_password() {
        let refusal = client("http://name:secret@host")
            .map_err(|source| BusError::Address { url: without_password("http://name:secret@host"), source });
        let text = refusal.expect_err("not Redis").to_string();
        assert!(text.contains("http://***@host") && !text.contains("secret"), "{text}");
    }
}
