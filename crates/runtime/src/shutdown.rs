//! The orderly end: a token that the first SIGINT or SIGTERM cancels.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::RuntimeError;

/// A token that is cancelled by SIGINT or SIGTERM. A second signal ends the process at once, with the
/// exit code that shells give to a process killed by it (130 or 143).
///
/// Must be called within a Tokio runtime.
///
/// # Errors
/// [`RuntimeError::Signals`] if the system refuses a handler.
pub fn on_signals() -> Result<CancellationToken, RuntimeError> {
    let interrupt = signal(SignalKind::interrupt()).map_err(RuntimeError::Signals)?;
    let terminate = signal(SignalKind::terminate()).map_err(RuntimeError::Signals)?;
    let token = CancellationToken::new();
    tokio::spawn(watch(interrupt, terminate, token.clone()));
    Ok(token)
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, token: CancellationToken) {
    next(&mut interrupt, &mut terminate).await;
    tracing::info!("stopping; a second signal ends the process at once");
    token.cancel();
    let code = next(&mut interrupt, &mut terminate).await;
    tracing::warn!("second signal: ending at once");
    std::process::exit(code);
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Unix, getpid, kill_process};

    #[tokio::test]
    async fn the_first_signal_cancels_the_token_and_the_process_lives_on() {
        let token = on_signals().unwrap();
        assert!(!token.is_cancelled());
        kill_process(getpid(), Unix::TERM).unwrap();
        token.cancelled().await;
    }
}
