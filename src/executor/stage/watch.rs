//! Waits for an attempt, and stops it in time.
//!
//! Purpose: a stop or kill of the whole run, and the timeout of the stage, whatever the executor.
//! Invariant: an attempt is asked before it is killed; an attempt that has ended is never cancelled.
//! Must not know: where the attempt runs.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::executor::attempt::{AttemptError, Executor, Exit, Request, Stop};

/// How long an attempt that is out of time may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Waits until an attempt has ended.
///
/// # Errors
/// It can no longer be watched.
pub async fn watch<E: Executor>(
    executor: &E,
    request: &Request<'_>,
    handle: &mut E::Handle,
) -> Result<Exit, AttemptError> {
    let cancellation = &request.context.cancellation;
    let mut deadline = request.stage().timeout.map(|time| Instant::now() + time);
    let (mut timed_out, mut asked, mut killed) = (false, false, false);
    let exit = loop {
        tokio::select! {
            exit = executor.poll(request, handle) => break exit?,
            () = cancellation.stopping(), if !asked => {
                asked = true;
                executor.cancel(handle, Stop::Ask);
            }
            () = cancellation.killing(), if !killed => {
                killed = true;
                executor.cancel(handle, Stop::Kill);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                executor.cancel(handle, if timed_out { Stop::Kill } else { Stop::Ask });
                deadline = (!timed_out).then(|| Instant::now() + GRACE);
                timed_out = true;
            }
        }
    };
    // Who lost its supervisor cannot say whether it was asked before.
    let asked = if exit.leader.is_some() { exit.asked } else { asked };
    Ok(Exit { asked, timed_out, ..exit })
}
