//! One suite for both buses, and what Redis alone can do to its bus.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;

/// Far longer than anything here takes: a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two ends of one bus: what is published on the first reaches subscribers of the second.
type Ends = (Arc<dyn Bus>, Arc<dyn Bus>);

fn job(name: &str) -> JobId {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    JobId::from_uuid(Uuid::from_u128(u128::from(hasher.finish())))
}

fn payload(text: impl AsRef<[u8]>) -> Arc<[u8]> {
    Arc::from(text.as_ref())
}

async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(PATIENCE, subscription.next()).await.expect("something arrives")
}

/// What arrives until `last` does. Says also whether something was missed on the way.
async fn until(subscription: &mut Subscription, last: &str) -> (Vec<Arc<[u8]>>, bool) {
    let (mut events, mut missed) = (Vec::new(), false);
    loop {
        match next(subscription).await {
            Delivery::Missed => missed = true,
            Delivery::Event(event) => {
                let ended = *event == *last.as_bytes();
                events.push(event);
                if ended {
                    return (events, missed);
                }
            }
        }
    }
}

async fn events_arrive_in_order_at_every_subscriber((here, there): Ends) {
    let job = job("order");
    let mut subscriptions = [there.subscribe(job), there.subscribe(job), here.subscribe(job)];
    let sent: Vec<Arc<[u8]>> = (0..100).map(|number| payload(format!("event {number}"))).collect();
    for event in &sent {
        here.publish(job, Arc::clone(event));
    }
    for subscription in &mut subscriptions {
        assert_eq!(until(subscription, "event 99").await, (sent.clone(), false));
    }
}

async fn a_subscriber_hears_of_its_own_job_alone((here, there): Ends) {
    let (mine, other) = (job("mine"), job("other"));
    let mut subscription = there.subscribe(mine);
    here.publish(other, payload("not mine"));
    here.publish(mine, payload("mine"));
    assert_eq!(next(&mut subscription).await, Delivery::Event(payload("mine")));
}

async fn any_bytes_arrive_as_they_are((here, there): Ends) {
    let job = job("bytes");
    let mut subscription = there.subscribe(job);
    let large: Vec<u8> = (0..MAX_PAYLOAD).map(|index| (index % 251) as u8).collect();
    for bytes in [payload([]), payload([0, 255, 10, 13]), payload(large)] {
        here.publish(job, Arc::clone(&bytes));
        assert!(next(&mut subscription).await == Delivery::Event(bytes), "the same bytes");
    }
    here.publish(job, payload(vec![0; MAX_PAYLOAD + 1]));
    assert_eq!(next(&mut subscription).await, Delivery::Missed);
}

async fn a_slow_subscriber_misses_the_oldest_and_is_told((here, there): Ends) {
    let job = job("slow");
    let mut slow = there.subscribe(job);
    let mut last = there.subscribe(job);
    for number in 0..10 * BACKLOG {
        here.publish(job, payload(format!("event {number}")));
    }
    here.publish(job, payload("end"));
    // When the other subscriber has the end, so does the bus.
    until(&mut last, "end").await;
    let (events, missed) = until(&mut slow, "end").await;
    assert!(missed);
    assert!(events.len() <= BACKLOG, "{}", events.len());
    here.publish(job, payload("after"));
    assert_eq!(next(&mut slow).await, Delivery::Event(payload("after")));
}

async fn events_without_a_subscriber_are_dropped((here, there): Ends) {
    let job = job("nobody");
    here.publish(job, payload("unheard"));
    drop(there.subscribe(job));
    here.publish(job, payload("unheard"));
    // A later event on the same way, so that the earlier ones have gone through.
    let fence = self::job("nobody's fence");
    let mut passed = there.subscribe(fence);
    here.publish(fence, payload("fence"));
    assert_eq!(next(&mut passed).await, Delivery::Event(payload("fence")));
    let mut late = there.subscribe(job);
    here.publish(job, payload("heard"));
    assert_eq!(next(&mut late).await, Delivery::Event(payload("heard")));
}

/// The suite, for one bus.
macro_rules! conformance {
    ($bus:ident, $ends:expr, [$($test:ident),* $(,)?]) => {
        mod $bus {
            use super::*;
            $(
                #[tokio::test]
                async fn $test() {
                    let (ends, _server) = $ends.await;
                    super::$test(ends).await;
                }
            )*
        }
    };
}

macro_rules! for_each_bus {
    ($($bus:ident: $ends:expr;)*) => {
        $(conformance!($bus, $ends, [
            events_arrive_in_order_at_every_subscriber,
            a_subscriber_hears_of_its_own_job_alone,
            any_bytes_arrive_as_they_are,
            a_slow_subscriber_misses_the_oldest_and_is_told,
            events_without_a_subscriber_are_dropped,
        ]);)*
    };
}

for_each_bus! {
    local: local_ends();
    redis: redis_ends();
}

async fn local_ends() -> (Ends, Option<RedisServer>) {
    let bus = LocalBus::new();
    ((Arc::new(bus.clone()), Arc::new(bus)), None)
}

async fn redis_ends() -> (Ends, Option<RedisServer>) {
    let (url, server) = match std::env::var("SEEDFARM_TEST_REDIS_URL") {
        Ok(url) if !url.is_empty() => (url, None),
        _ => {
            let server = RedisServer::start();
            (server.url(), Some(server))
        }
    };
    let ends = connected_ends(&url).await;
    ((Arc::new(ends.0), Arc::new(ends.1)), server)
}

/// On a channel of their own: what one test does to its bus must not reach another's.
async fn connected_ends(url: &str) -> (RedisBus, RedisBus) {
    static CHANNELS: AtomicU32 = AtomicU32::new(0);
    let number = CHANNELS.fetch_add(1, Ordering::Relaxed);
    let channel = format!("seedfarm.test.{}.{number}", std::process::id());
    let open = || RedisBus::open_on(url, &channel).expect("address");
    let ends = (open(), open());
    for end in [&ends.0, &ends.1] {
        timeout(PATIENCE, end.connected()).await.expect("connected");
    }
    ends
}

/// A server of one test's own, that it may kill.
struct RedisServer {
    folder: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    fn stopped() -> Self {
        Self { folder: TempDir::new().expect("temporary folder"), child: None }
    }

    fn start() -> Self {
        let mut server = Self::stopped();
        server.run();
        server
    }

    fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs; install it with: cargo xtask setup");
        self.child = Some(child);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("kill -9");
        child.wait().expect("reaped");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

#[tokio::test]
async fn redis_may_be_killed_and_started_again_in_the_middle() {
    let mut server = RedisServer::start();
    let (here, there) = connected_ends(&server.url()).await;
    let job = job("killed");
    let mut far = there.subscribe(job);
    let mut near = here.subscribe(job);
    here.publish(job, payload("before"));
    assert_eq!(next(&mut far).await, Delivery::Event(payload("before")));

    server.kill();
    for number in 0..5000 {
        here.publish(job, payload(format!("away {number}")));
        // In the same process nothing is late.
        let expected = if number == 0 { payload("before") } else { payload(format!("away {}", number - 1)) };
        assert_eq!(next(&mut near).await, Delivery::Event(expected));
    }
    server.run();
    timeout(PATIENCE, here.connected()).await.expect("connected");
    timeout(PATIENCE, there.connected()).await.expect("connected");

    here.publish(job, payload("after"));
    let mut missed = false;
    // The last thing heard is the newest: what came before it is either delivered or announced.
    loop {
        match next(&mut far).await {
            Delivery::Missed => {
                missed = true;
                // The first publication after the gap may itself have met the broken connection.
                here.publish(job, payload("after"));
            }
            Delivery::Event(event) if *event == *b"after" => break,
            Delivery::Event(_) => {}
        }
    }
    assert!(missed, "the gap was announced");
}

#[tokio::test]
async fn a_bus_starts_without_redis_and_finds_it_later() {
    let mut server = RedisServer::stopped();
    let here = RedisBus::open(&server.url()).expect("address");
    let there = RedisBus::open(&server.url()).expect("address");
    let job = job("later");
    let mut near = here.subscribe(job);
    let mut far = there.subscribe(job);
    here.publish(job, payload("early"));
    assert_eq!(next(&mut near).await, Delivery::Event(payload("early")));
    assert!(!here.is_connected());

    server.run();
    timeout(PATIENCE, here.connected()).await.expect("connected");
    timeout(PATIENCE, there.connected()).await.expect("connected");
    assert_eq!(next(&mut far).await, Delivery::Missed);
    here.publish(job, payload("late"));
    until(&mut far, "late").await;
}

#[tokio::test]
async fn flushing_redis_loses_nothing() {
    let server = RedisServer::start();
    let (here, there) = connected_ends(&server.url()).await;
    let job = job("flushed");
    let mut far = there.subscribe(job);
    here.publish(job, payload("one"));
    let client = ::redis::Client::open(server.url()).expect("address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connection");
    let () = ::redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("flushed");
    here.publish(job, payload("two"));
    assert_eq!(until(&mut far, "two").await, (vec![payload("one"), payload("two")], false));
}

#[test]
fn a_subscription_that_ends_leaves_nothing_behind() {
    let bus = LocalBus::new();
    let (first, second) = (bus.subscribe(job("gone")), bus.subscribe(job("gone")));
    assert_eq!(bus.watched_jobs(), 1);
    drop(first);
    assert_eq!(bus.watched_jobs(), 1);
    drop(second);
    assert_eq!(bus.watched_jobs(), 0);
}
