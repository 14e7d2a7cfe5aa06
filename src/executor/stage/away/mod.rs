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
use super::elsewhere::take_over;
use super::life::{Early, StageRun};
use crate::cas::remote::Lease;
use crate::cas::types::Action;
use crate::executor::blocking;
use crate::executor::cluster::Site;
use crate::executor::cluster::end::{self as job_end, JobEnd};
use crate::executor::cluster::engine::{self, ClusterError, Job};
use crate::executor::cluster::intent::{self, Intent};
use crate::executor::cluster::mail::Mail;
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

/// What comes after the end of a job.
enum Next {
    /// The stage has ended.
    End(StageEnd),
    /// It is submitted again, for this reason.
    Again(String),
}

/// A job that is followed.
struct Followed {
    intent: Intent,
    mail: Mail,
    /// Whether it had ended before this runner came.
    is_over: bool,
    /// The lease of the action, where the runner has it.
    lease: Option<Lease>,
}

impl StageRun {
    async fn away(self: Arc<Self>, site: &Arc<Site>) -> Result<StageEnd, Early> {
        let _lock = match blocking(&self, Self::lock_job).await? {
            Ok(lock) => lock,
            Err(_) if site.detaches => {
                return Ok(StageEnd::Detached("left to another runner".to_owned()));
            }
            Err(holder) => {
                let lock = intent::lock(&self.job.key);
                return Ok(StageEnd::Held { holder, lock });
            }
        };
        if let Some(action) = blocking(&self, |run| run.look_up()).await? {
            self.forget_known().await?;
            return Ok(StageEnd::Found(Box::new(action)));
        }
        let mut lost = 0;
        loop {
            let mut followed = match self.adopt(site).await? {
                Some(followed) => followed,
                None if site.only_follows => return Ok(StageEnd::Interrupted),
                None => self.submit(site).await?,
            };
            if site.detaches && !followed.is_over {
                return Ok(self.detached(&followed.intent));
            }
            let why = match self.ending(site, &mut followed, lost).await {
                Ok(Next::End(end)) => return Ok(end),
                Ok(Next::Again(why)) => why,
                // Nobody was there when it failed, and whoever calls now wants it to run.
                Err(Early::Failed(error)) if followed.is_over && !site.only_follows => error,
                Err(early) => return Err(early),
            };
            self.forget(&followed).await?;
            lost += u32::from(!followed.is_over);
            if lost > MOST_LOST {
                return Err(Early::Failed(why));
            }
            self.note(format!("{why}; it is submitted again"));
        }
    }

    /// Follows a job to its end, and says what becomes of the stage.
    async fn ending(
        self: &Arc<Self>,
        site: &Site,
        followed: &mut Followed,
        lost: u32,
    ) -> Result<Next, Early> {
        let ending = self.follow(site, followed).await?;
        let is_done = matches!(ending, Ending::Said(JobEnd::Done { .. }));
        let failed = match ending {
            Ending::Said(JobEnd::Done { seconds: None }) if self.job.replace => {
                return Ok(Next::Again("its job was submitted before the stage was forced".to_owned()));
            }
            Ending::Detached if site.cancels() => return self.cancel(site, followed).await.map(Next::End),
            Ending::Detached => return Ok(Next::End(self.detached(&followed.intent))),
            // The job goes on, and the next run finds it.
            Ending::Unwatched(error) => return Err(Early::Failed(error)),
            Ending::Said(JobEnd::InputMissing { input }) => {
                if lost == 0 && followed.intent.remote.is_some() {
                    return Ok(Next::Again(format!("its input `{input}` was not in the remote any more")));
                }
                self.forget(followed).await?;
                return Err(self.input_missing(&input));
            }
            Ending::Said(JobEnd::Held { holder }) => {
                let look = site.watch.looks().borrow().clone();
                let alive = look.jobs.get(&followed.intent.name()).is_some_and(Job::is_alive);
                // Another job of the same submission may be the one that holds it.
                if !alive {
                    self.forget(followed).await?;
                }
                return Ok(Next::End(StageEnd::HeldElsewhere(holder)));
            }
            Ending::Said(JobEnd::Failed { error }) => Err(self.with_cause(site, followed, error).await),
            Ending::Said(JobEnd::OutOfTime) => Err(end::out_of_time(self.stage(), true)),
            Ending::Said(JobEnd::Done { .. }) => {
                Ok("its job says that it is done, and its result is not there".to_owned())
            }
            Ending::Lost(why) => Ok(why),
            Ending::Failed(error) => Err(error),
        };
        // Whatever was said of the job: what counts is whether its result is there. That of a forced stage was there before.
        let remote = followed.intent.remote.is_some();
        if (is_done || !self.job.replace)
            && let Some(action) = blocking(self, move |run| run.result(remote)).await?
        {
            return self.take_result(action, followed).await.map(Next::End);
        }
        match failed {
            Ok(why) => Ok(Next::Again(why)),
            Err(error) => {
                self.forget(followed).await?;
                Err(Early::Failed(error))
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
        StageEnd::Detached(match &intent.job {
            Some(job) => format!("left to job {job} of {}", intent.executor),
            None => format!("left to its job of {}, if there is one", intent.executor),
        })
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
        if intent.address.as_deref() != site.spec.address() {
            let job = intent.job.as_deref().unwrap_or("unknown");
            return Err(Early::Failed(format!(
                "it has job {job} of {} already: `kiln attach` goes on with that, `kiln cancel` cancels it",
                intent.executor
            )));
        }
        let mail = self.mail(intent.remote.as_deref());
        let job = self.find(site, &intent).await?;
        let (reading, submission) = (mail.clone(), intent.submission.clone());
        let ended = blocking(self, move |_| job_end::read(&reading, &submission)).await?;
        // What a job made before the stage was forced is not what is asked for.
        if self.job.replace && ended.is_some() {
            return Ok(None);
        }
        match job {
            Some(job) => {
                if intent.job.as_ref() != Some(&job.id) {
                    intent.job = Some(job.id.clone());
                    let found = intent.clone();
                    blocking(self, move |run| intent::write(&run.context.store, &found)).await?;
                }
                let is_over = ended.is_some() || !job.is_alive();
                if !is_over {
                    self.submitted(&intent, true);
                }
                Ok(Some(Followed { intent, mail, is_over, lease: None }))
            }
            // The cluster has forgotten it, and what it has said is of use.
            None if ended.is_some() => Ok(Some(Followed { intent, mail, is_over: true, lease: None })),
            None => Ok(None),
        }
    }

    /// The job of an intent. That there is none, several answers must say.
    async fn find(self: &Arc<Self>, site: &Site, intent: &Intent) -> Result<Option<Job>, Early> {
        let mut told = false;
        for _ in 0..end::AGREEING {
            let look = tokio::select! {
                look = site.watch.fresh(|error| self.waits_for_cluster(error, &mut told)) => look,
                () = self.context.cancellation.stopping() => {
                    return Err(Early::End(self.detached(intent)));
                }
            };
            if let Some(error) = look.error.filter(|error| !error.is_passing()) {
                return Err(error.into());
            }
            if let Some(job) = look.jobs.get(&intent.name()) {
                return Ok(Some(job.clone()));
            }
        }
        Ok(None)
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
    pub(super) fn waits_for_cluster(&self, error: &ClusterError, told: &mut bool) {
        if error.is_passing() && !std::mem::replace(told, true) {
            self.note(format!("{error}; kiln waits and asks again"));
        }
    }

    /// Takes over the result of a job.
    async fn take_result(
        self: &Arc<Self>,
        action: Action,
        followed: &mut Followed,
    ) -> Result<StageEnd, Early> {
        let (remote, lease) = (followed.intent.remote.is_some(), followed.lease.take());
        self.forget_all(&followed.mail).await?;
        let (outputs, summary) = (action.outputs.clone(), action.provenance.summary.clone());
        blocking(self, move |run| {
            if !remote {
                run.share(true, lease);
            }
        })
        .await;
        let seconds = Some(action.provenance.seconds);
        Ok(StageEnd::Ran { outputs, summary, kept: true, seconds })
    }

    /// The result of the stage, if it is there now: in the store, or in the remote of its job.
    fn result(&self, remote: bool) -> Result<Option<Action>, Early> {
        if !remote {
            return if self.job.replace {
                Ok(self.context.store.action(&self.job.key)?)
            } else {
                self.look_up()
            };
        }
        // What was lost there once may be there again.
        self.context.planner.forget_answer(&self.job.key);
        let Some(found) = self.context.planner.elsewhere(self.stage(), &self.job.key) else {
            return Ok(None);
        };
        take_over(&self.context.store, &found.action, false)?;
        Ok(Some((*found.action).clone()))
    }

    /// Cancels the job of a run that stops.
    async fn cancel(self: &Arc<Self>, site: &Site, followed: &Followed) -> Result<StageEnd, Early> {
        let ids: Vec<_> = followed.intent.job.iter().cloned().collect();
        let turn = site.submitting.acquire().await;
        let cancelled = engine::cancel(&site.spec, &ids).await;
        drop(turn);
        if let Err(error) = cancelled {
            let id = followed.intent.job.as_deref().unwrap_or("unknown");
            let error = format!("job {id} was not cancelled: {error}; `kiln cancel` tries again");
            return Err(Early::Failed(error));
        }
        self.forget(followed).await?;
        self.note(format!("job {} of {} is cancelled", ids.join(", "), followed.intent.executor));
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

    /// Forgets a job whose result somebody else has made.
    async fn forget_known(self: &Arc<Self>) -> Result<(), Early> {
        let known = blocking(self, |run| intent::read(&run.context.store, &run.job.key)).await;
        match known {
            Some(intent) => self.forget_all(&self.mail(intent.remote.as_deref())).await,
            None => Ok(()),
        }
    }

    /// Forgets everything of the job of a stage that is done.
    async fn forget_all(self: &Arc<Self>, mail: &Mail) -> Result<(), Early> {
        let mail = mail.clone();
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
