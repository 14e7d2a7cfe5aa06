//! A stage whose work a job of a cluster does: `submit` hands it over, `follow` watches its job, `end` says what became of
//! one that does not say so itself.
//!
//! Purpose: hand the stage over, watch its job, and take the result: [`run_as_job`] reads top to bottom.
//! Invariant: an intent is durable before a job is submitted, and whoever submits or watches the job of a key holds its lock;
//! so a runner that starts after a crash finds the job by its name and goes on with it. What counts is the action, then what
//! the job says of its end; what the cluster says of it counts only where the job said nothing.
//! Must not know: how a job is submitted, what it does on its node.

mod end;
mod follow;
mod submit;

use std::sync::Arc;

use self::end::Ending;
use super::life::{Early, StageRun};
use crate::cas::remote::Lease;
use crate::cas::types::Action;
use crate::executor::blocking;
use crate::executor::cluster::Site;
use crate::executor::cluster::end::{self as job_end, JobEnd};
use crate::executor::cluster::intent::{self, Intent};
use crate::executor::cluster::mail::Mail;
use crate::executor::cluster::slurm::{self, Phase, SlurmError};
use crate::executor::job::StageEnd;
use crate::sched::StageEvent;
use crate::state::{Holder, KeyLock, Lock};

/// How often a job is submitted again whose node failed, or which was forgotten.
const MOST_LOST: u32 = 3;

/// Runs a stage as a job.
pub async fn run_as_job(run: StageRun, site: Arc<Site>) -> StageEnd {
    let run = Arc::new(run);
    match run.clone().away(&site).await {
        Ok(end) | Err(Early::End(end)) => end,
        Err(Early::Failed(error)) => run.failure(error),
    }
}

/// A job that is followed.
struct Followed {
    intent: Intent,
    mail: Mail,
    /// The lease of the action, where the runner has it.
    lease: Option<Lease>,
}

impl StageRun {
    async fn away(self: Arc<Self>, site: &Arc<Site>) -> Result<StageEnd, Early> {
        let _lock = match blocking(&self, Self::lock_job).await? {
            Ok(lock) => lock,
            Err(holder) => {
                let lock = intent::lock(&self.job.key);
                return Ok(StageEnd::Held { holder, lock });
            }
        };
        if let Some(action) = blocking(&self, |run| run.look_up()).await? {
            blocking(&self, |run| intent::forget(&run.context.store, &run.job.key)).await?;
            return Ok(StageEnd::Found(Box::new(action)));
        }
        let mut lost = 0;
        loop {
            let mut followed = match self.adopt(site).await? {
                Some(followed) => followed,
                None if site.only_follows => return Ok(StageEnd::Interrupted),
                None => self.submit(site).await?,
            };
            if site.detaches {
                return Ok(self.detached(&followed.intent));
            }
            match self.follow(site, &followed).await? {
                // It was removed before the job ran, and is sent again.
                Ending::Said(JobEnd::InputMissing { .. })
                    if lost == 0 && followed.intent.remote.is_some() =>
                {
                    lost += 1;
                    self.forget(&followed).await?;
                }
                Ending::Said(JobEnd::Failed { error }) => {
                    let error = self.with_cause(site, &followed, error).await;
                    return self.said(JobEnd::Failed { error }, &mut followed).await;
                }
                Ending::Said(end) => return self.said(end, &mut followed).await,
                Ending::Detached if site.cancels() => return self.cancel(&followed).await,
                Ending::Detached => return Ok(self.detached(&followed.intent)),
                Ending::Lost(why) if lost < MOST_LOST => {
                    lost += 1;
                    self.note(format!("{why}; it is submitted again"));
                    self.forget(&followed).await?;
                }
                Ending::Lost(error) | Ending::Failed(error) => {
                    self.forget(&followed).await?;
                    return Err(Early::Failed(error));
                }
            }
        }
    }

    fn lock_job(&self) -> Result<Result<KeyLock, Holder>, Early> {
        let lock = intent::lock(&self.job.key);
        Ok(match self.context.store.try_lock(&lock, &self.stage().name.value)? {
            Lock::Acquired(lock) => Ok(lock),
            Lock::HeldBy(holder) => Err(holder),
        })
    }

    pub(super) fn note(&self, message: String) {
        (self.emit)(StageEvent::Note { message });
    }

    fn detached(&self, intent: &Intent) -> StageEnd {
        let job = intent.job.as_deref().unwrap_or("unknown");
        StageEnd::Detached(format!("job {job} of {} goes on", intent.executor))
    }

    pub(super) fn mail(&self, remote: Option<&str>) -> Mail {
        let (store, key) = (&self.context.store, &self.job.key);
        match remote {
            Some(remote) => Mail::in_remote(Arc::clone(store), remote, key),
            None => Mail::in_store(store, key),
        }
    }

    /// The job that an earlier runner has submitted, if it is there or has said how it ended.
    async fn adopt(self: &Arc<Self>, site: &Site) -> Result<Option<Followed>, Early> {
        let known = blocking(self, |run| intent::read(&run.context.store, &run.job.key)).await;
        let Some(mut intent) = known else { return Ok(None) };
        let mail = self.mail(intent.remote.as_deref());
        let mut told = false;
        let look = site.watch.fresh(|error| self.waits_for_cluster(error, &mut told)).await;
        if let Some(error) = look.error.filter(|error| !error.is_passing()) {
            return Err(error.into());
        }
        let (reading, submission) = (mail.clone(), intent.submission.clone());
        let ended = blocking(self, move |_| job_end::read(&reading, &submission)).await?;
        // What a job made before the stage was forced is not what is asked for.
        if self.job.replace && ended.is_some() {
            return Ok(None);
        }
        match look.jobs.get(&intent.name()) {
            Some(job) if ended.is_some() || !matches!(job.phase, Phase::Ended(_)) => {
                if intent.job.as_ref() != Some(&job.id) {
                    intent.job = Some(job.id.clone());
                    let found = intent.clone();
                    blocking(self, move |run| intent::write(&run.context.store, &found)).await?;
                }
                self.submitted(&intent, true);
                Ok(Some(Followed { intent, mail, lease: None }))
            }
            // It is over, and what it has said is of use.
            _ if ended.is_some() => Ok(Some(Followed { intent, mail, lease: None })),
            _ => Ok(None),
        }
    }

    pub(super) fn submitted(&self, intent: &Intent, adopted: bool) {
        (self.emit)(StageEvent::Submitted {
            executor: intent.executor.clone(),
            job: intent.job.clone().unwrap_or_default(),
            name: intent.name(),
            adopted,
        });
    }

    /// Says once that the cluster does not answer.
    pub(super) fn waits_for_cluster(&self, error: &SlurmError, told: &mut bool) {
        if error.is_passing() && !std::mem::replace(told, true) {
            self.note(format!("{error}; kiln waits and asks again"));
        }
    }

    /// What a job has said of its end.
    async fn said(self: &Arc<Self>, end: JobEnd, followed: &mut Followed) -> Result<StageEnd, Early> {
        match end {
            JobEnd::Done { .. } => {
                let remote = followed.intent.remote.is_some();
                let action = blocking(self, move |run| run.result(remote)).await?;
                let lease = followed.lease.take();
                self.forget_all(followed).await?;
                let (outputs, summary) = (action.outputs.clone(), action.provenance.summary.clone());
                blocking(self, move |run| {
                    if !remote {
                        run.share(true, lease)
                    }
                })
                .await;
                let seconds = Some(action.provenance.seconds);
                Ok(StageEnd::Ran { outputs, summary, kept: true, seconds })
            }
            JobEnd::Held { holder } => {
                self.forget(followed).await?;
                Ok(StageEnd::HeldElsewhere(holder))
            }
            JobEnd::InputMissing { input } => {
                self.forget(followed).await?;
                Err(self.input_missing(&input))
            }
            JobEnd::Failed { error } => {
                self.forget(followed).await?;
                Err(Early::Failed(error))
            }
            JobEnd::OutOfTime => {
                self.forget(followed).await?;
                Err(Early::Failed(end::out_of_time(self.stage(), true)))
            }
        }
    }

    /// The result of a job that is done.
    fn result(&self, remote: bool) -> Result<Action, Early> {
        let found = match remote {
            false => self.context.store.action(&self.job.key)?,
            true => self.made_elsewhere(false)?,
        };
        found.ok_or_else(|| {
            Early::Failed(
                "its job says that it is done, and its result is not there; does the job use the same store or remote, \
                 and the same keys?"
                    .to_owned(),
            )
        })
    }

    /// Cancels the job of a run that stops.
    async fn cancel(self: &Arc<Self>, followed: &Followed) -> Result<StageEnd, Early> {
        let ids: Vec<_> = followed.intent.job.iter().cloned().collect();
        slurm::cancel(&ids).await?;
        self.forget(followed).await?;
        Ok(StageEnd::Interrupted)
    }

    /// Forgets a submission; what the next one needs stays.
    async fn forget(self: &Arc<Self>, followed: &Followed) -> Result<(), Early> {
        let (mail, submission) = (followed.mail.clone(), followed.intent.submission.clone());
        blocking(self, move |run| {
            if mail.is_remote()
                && let Err(error) = mail.remove(&[&submission])
            {
                tracing::debug!("what a job wrote was not removed: {error}");
            }
            intent::forget(&run.context.store, &run.job.key)
        })
        .await?;
        Ok(())
    }

    /// Forgets everything of the job of a stage that is done.
    async fn forget_all(self: &Arc<Self>, followed: &Followed) -> Result<(), Early> {
        let mail = followed.mail.clone();
        blocking(self, move |run| {
            if mail.is_remote()
                && let Err(error) = mail.remove(&[])
            {
                tracing::debug!("what a job wrote was not removed: {error}");
            }
            intent::forget(&run.context.store, &run.job.key)
        })
        .await?;
        Ok(())
    }
}
