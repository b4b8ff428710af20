//! Whether Redis is reachable, said once at each change.

use tokio::sync::watch;

/// The two connections of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Publishing,
    Listening,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    publishing: bool,
    listening: bool,
    /// The present outage has been logged.
    told: bool,
}

impl State {
    fn side(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Publishing => &mut self.publishing,
            Side::Listening => &mut self.listening,
        }
    }

    fn is_up(&self) -> bool {
        self.publishing && self.listening
    }
}

/// The state of a bus, shared by its tasks.
#[derive(Debug)]
pub(super) struct Status(watch::Sender<State>);

impl Status {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State::default()))
    }

    /// A connection stands.
    pub(super) fn up(&self, side: Side) {
        self.0.send_modify(|state| {
            *state.side(side) = true;
            if state.is_up() && state.told {
                state.told = false;
                tracing::info!("Redis is back; replicas see each other's progress again");
            }
        });
    }

    /// A connection could not be made or broke.
    pub(super) fn down(&self, side: Side, error: &dyn std::fmt::Display) {
        self.0.send_modify(|state| {
            *state.side(side) = false;
            if !state.told {
                state.told = true;
                tracing::warn!(
                    %error,
                    "Redis is away; jobs go on, and other replicas see their progress late"
                );
            }
        });
    }

    /// Whether that connection stood when last heard of.
    pub(super) fn was_up(&self, side: Side) -> bool {
        *self.0.borrow().clone().side(side)
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.borrow().is_up()
    }

    /// Waits until both connections stand.
    pub(super) async fn wait_until_up(&self) {
        // The sender is `self`, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(State::is_up).await;
    }
}
