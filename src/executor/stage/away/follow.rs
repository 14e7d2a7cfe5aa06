//! Watching a job.
//!
//! Purpose: pass on what the job says, and find out that it has ended.
//! Invariant: what the job says of its end counts; what the cluster says counts only where the job says nothing, and only when
//! several answers agree, for the end may be on its way.
//! Must not know: how the job was submitted, what becomes of its stage.

use std::sync::Arc;
use std::time::Duration;

use super::Followed;
use super::end::{self, Ending};
use crate::executor::blocking;
use crate::executor::cluster::end::{self as job_end, JobEnd};
use crate::executor::cluster::engine::{Cause, Phase};
use crate::executor::cluster::mail::Mail;
use crate::executor::cluster::outbox::{self, Said};
use crate::executor::cluster::{Site, watch::Look};
use crate::executor::log::Log;
use crate::executor::stage::life::{Early, StageRun};

/// How often what a job says is read, from a folder and from a remote.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_REMOTE: Duration = Duration::from_secs(5);
/// How long a job that has said its end may take to end for the cluster, too.
const LONGEST_END: Duration = Duration::from_secs(10);

impl StageRun {
    /// Passes on what the job says until it has ended.
    pub(super) async fn follow(self: &Arc<Self>, site: &Site, followed: &Followed) -> Result<Ending, Early> {
        let mut looks = site.watch.looks();
        let (mut said, mut state) = (0, end::Seen::default());
        site.watch.wake();
        loop {
            let (mail, submission) = (followed.mail.clone(), followed.intent.submission.clone());
            let news = blocking(self, move |run| run.news(&mail, &submission, said)).await;
            match news {
                (_, Ok(Some(end))) => return Ok(Ending::Said(end)),
                (number, Ok(None)) => said = number,
                // Whatever it is, the next look may go well.
                (number, Err(error)) => {
                    said = number;
                    tracing::debug!("what a job says was not read: {error:?}");
                }
            }
            let look = looks.borrow_and_update().clone();
            if let Some(ending) = self.judge(&look, site, followed, &mut state).await {
                return Ok(ending);
            }
            let every = if followed.mail.is_remote() { EVERY_REMOTE } else { EVERY };
            tokio::select! {
                _ = looks.changed() => {}
                () = tokio::time::sleep(every), if state.is_running => {}
                () = self.context.cancellation.stopping() => return Ok(Ending::Detached),
            }
        }
    }

    /// Reads what is new; gives the number of the last file that was read, and the end.
    fn news(&self, mail: &Mail, submission: &str, from: u64) -> (u64, Result<Option<JobEnd>, Early>) {
        let mut number = from;
        let read = self.hear(mail, submission, &mut number);
        (number, read)
    }

    fn hear(&self, mail: &Mail, submission: &str, number: &mut u64) -> Result<Option<JobEnd>, Early> {
        // The end first: what was said before it is there, then.
        let end = job_end::read(mail, submission)?;
        let log = Log::open(&self.context.run.log_path(&self.stage().name.value))?;
        let mut each = |said| match said {
            Said::Event(event) => (self.emit)(event),
            Said::Log(text) => outbox::lines(&text).for_each(|line| log.line(line.as_bytes())),
        };
        if end.is_some() {
            // Its end counts, whatever else cannot be read.
            let _ = outbox::read_rest(mail, submission, number, &mut each);
        } else {
            outbox::read(mail, submission, number, &mut each)?;
        }
        Ok(end)
    }

    /// What the cluster says of a job that has not said its end.
    async fn judge(
        &self,
        look: &Look,
        site: &Site,
        followed: &Followed,
        seen: &mut end::Seen,
    ) -> Option<Ending> {
        if let Some(error) = look.error.as_ref().filter(|_| look.asked > seen.asked) {
            seen.asked = look.asked;
            self.waits_for_cluster(error, &mut seen.told_silence);
            return (!error.is_passing()).then(|| Ending::Unwatched(error.to_string()));
        }
        if look.answered <= seen.answered {
            return None;
        }
        (seen.answered, seen.told_silence) = (look.answered, false);
        let job = look.jobs.get(&followed.intent.name());
        if let Some(event) = seen.news(job) {
            (self.emit)(event);
        }
        let is_over = seen.is_over(job) || seen.asks_for_exit(job) && end::never_started(site, job).await;
        if !is_over {
            return None;
        }
        Some(end::explain(job, site, &followed.intent, self.stage(), &self.context.store).await)
    }

    /// The error of a stage, with what the cluster says of its job: a stage that was killed may not know that it was out of
    /// memory.
    pub(super) async fn with_cause(&self, site: &Site, followed: &Followed, error: String) -> String {
        let mut looks = site.watch.looks();
        let over = tokio::time::timeout(LONGEST_END, async {
            loop {
                site.watch.wake();
                let look = looks.borrow_and_update().clone();
                match look.jobs.get(&followed.intent.name()).map(|job| job.phase) {
                    Some(Phase::Ended(cause)) => return Some(cause),
                    Some(_) if looks.changed().await.is_ok() => {}
                    _ => return None,
                }
            }
        });
        match over.await {
            Ok(Some(Cause::Memory)) => {
                let id = followed.intent.job.as_deref().unwrap_or("unknown");
                format!("{} ({error})", end::out_of_memory(id, &followed.intent))
            }
            _ => error,
        }
    }
}
