//! A stage whose work a job of a cluster does.
//!
//! Purpose: hand the stage over, watch its job, and take the result: [`run_as_job`] reads top to bottom.
//! Invariant: an intent is durable before a job is submitted, and whoever submits or watches the job of a key holds its lock;
//! so a runner that starts after a crash finds the job by its name and goes on with it. What counts is the action, then what
//! the job says of its end; what the cluster says of it counts only where the job said nothing.
//! Must not know: how a job is submitted, what it does on its node.

use std::sync::Arc;
use std::time::Duration;

use super::away_end::{self, Ending};
use super::life::{Early, StageRun};
use crate::cas::During;
use crate::cas::remote::{Lease, Sending};
use crate::cas::types::{Action, ArtifactRef};
use crate::digest::Digest;
use crate::executor::blocking;
use crate::executor::cluster::end::{self, JobEnd};
use crate::executor::cluster::intent::{self, Intent};
use crate::executor::cluster::mail::Mail;
use crate::executor::cluster::outbox::{self, Said};
use crate::executor::cluster::request::JobRequest;
use crate::executor::cluster::script::{self, Place};
use crate::executor::cluster::slurm::{self, Cause, Phase, SlurmError, Submission};
use crate::executor::cluster::{Site, watch::Look};
use crate::executor::job::StageEnd;
use crate::executor::log::Log;
use crate::graph::Producer;
use crate::sched::StageEvent;
use crate::state::{Holder, KeyLock, Lock};

/// How often a job is submitted again whose node failed, or which was forgotten.
const MOST_LOST: u32 = 3;
/// How often what a job says is read, from a folder and from a remote.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_REMOTE: Duration = Duration::from_secs(5);
/// The first and the longest wait before a job is submitted again to a cluster that does not take it.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a job that has said its end may take to end for the cluster, too.
const LONGEST_END: Duration = Duration::from_secs(10);
/// So many answers of the cluster must agree before a job without an end counts as ended: the end may be on its way.
const AGREEING: u32 = 3;

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

    fn note(&self, message: String) {
        (self.emit)(StageEvent::Note { message });
    }

    fn detached(&self, intent: &Intent) -> StageEnd {
        let job = intent.job.as_deref().unwrap_or("unknown");
        StageEnd::Detached(format!("job {job} of {} goes on", intent.executor))
    }

    fn mail(&self, remote: Option<&str>) -> Mail {
        let (store, key) = (&self.context.store, &self.job.key);
        match remote {
            Some(remote) => Mail::in_remote(Arc::clone(store), remote, key),
            None => Mail::in_store(store, key),
        }
    }

    /// The job that an earlier runner has submitted, if it is there or has said how it ended.
    async fn adopt(self: &Arc<Self>, site: &Site) -> Result<Option<Followed>, Early> {
        let known = blocking(self, |run| intent::read(&run.context.store, &run.job.key)).await;
        // A forced stage runs again, whatever an earlier job makes.
        let Some(mut intent) = known else { return Ok(None) };
        let mail = self.mail(intent.remote.as_deref());
        let (reading, submission) = (mail.clone(), intent.submission.clone());
        let ended = blocking(self, move |_| end::read(&reading, &submission)).await?;
        let mut told = false;
        let look = site.watch.fresh(|error| self.waits_for_cluster(error, &mut told)).await;
        if let Some(error) = look.error.filter(|error| !error.is_passing()) {
            return Err(error.into());
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

    fn submitted(&self, intent: &Intent, adopted: bool) {
        (self.emit)(StageEvent::Submitted {
            executor: intent.executor.clone(),
            job: intent.job.clone().unwrap_or_default(),
            name: intent.name(),
            adopted,
        });
    }

    /// Says once that the cluster does not answer.
    fn waits_for_cluster(&self, error: &SlurmError, told: &mut bool) {
        if error.is_passing() && !std::mem::replace(told, true) {
            self.note(format!("{error}; kiln waits and asks again"));
        }
    }

    /// Hands the stage over.
    async fn submit(self: &Arc<Self>, site: &Arc<Site>) -> Result<Followed, Early> {
        let _turn = tokio::select! {
            turn = site.submitting.acquire() => turn.ok(),
            () = self.context.cancellation.stopping() => return Err(Early::End(StageEnd::Interrupted)),
        };
        let remote = site.spec.remote.clone();
        let submitted_by = Arc::clone(site);
        let (mut intent, script, lease) =
            blocking(self, move |run| run.hand_over(&submitted_by, remote.as_deref())).await?;
        let id = self.submit_until_taken(site, &intent, &script).await?;
        intent.job = Some(id);
        let known = intent.clone();
        blocking(self, move |run| intent::write(&run.context.store, &known)).await?;
        self.submitted(&intent, false);
        site.watch.wake();
        let mail = self.mail(intent.remote.as_deref());
        Ok(Followed { intent, mail, lease })
    }

    /// Writes everything that the job needs, and the intent. Blocks on disk and network.
    fn hand_over(&self, site: &Site, remote: Option<&str>) -> Result<(Intent, String, Option<Lease>), Early> {
        let (store, key) = (&self.context.store, &self.job.key);
        // The job asks for the lease itself where it has the remote.
        let lease = match remote {
            Some(_) => None,
            None => self.lease()?,
        };
        self.bring_inputs(remote)?;
        let request = JobRequest::of(&self.context, &self.job)?;
        self.bring_uses(&request, remote)?;
        let submission = intent::submission(key);
        let bytes = serde_json::to_vec(&request)?;
        let digest = Digest::of_bytes(&bytes);
        self.mail(remote).put(&[&submission, "request.json"], bytes)?;
        let intent = Intent {
            format: intent::FORMAT.to_owned(),
            key: *key,
            stage: self.stage().name.value.clone(),
            pipeline: self.context.graph.pipeline().name.clone(),
            executor: site.spec.name.clone(),
            submission,
            job: None,
            since: format!("{:.0}", jiff::Timestamp::now()),
            run: self.context.run.id().to_owned(),
            remote: remote.map(str::to_owned),
        };
        intent::write(store, &intent)?;
        let program = std::env::current_exe().during("find", std::path::Path::new("the program of kiln"))?;
        let root = std::path::absolute(store.root()).during("find", store.root())?;
        let url = remote.and_then(|name| Some((name, self.remote_url(name)?)));
        let place = Place { program: &program, store: &root, remote: url };
        Ok((intent.clone(), script::script(&site.spec, &intent, &digest, &place), lease))
    }

    fn remote_url(&self, name: &str) -> Option<String> {
        let mut remotes = self.context.store.remotes()?.iter();
        remotes.find(|remote| remote.name == name).map(|remote| remote.address.to_string())
    }

    /// Puts the inputs where the job finds them: into the store, and where it has another one into the remote.
    fn bring_inputs(&self, remote: Option<&str>) -> Result<(), Early> {
        let (store, mut here) = (&self.context.store, Vec::new());
        if remote.is_none() {
            self.fetch_inputs()?;
        }
        for input in self.context.graph.inputs(self.job.stage) {
            let Some(artifact) = self.job.inputs.get(input.name) else { continue };
            let intact = store.is_intact(artifact)?;
            match (input.from, intact) {
                (_, true) => here.push(*artifact),
                (Producer::Source(name), false) => {
                    let sources = self.context.planner.sources();
                    self.keep(artifact, &format!("source `{name}`"), |to| Ok(sources.copy(name, to)?))?;
                    here.push(*artifact);
                }
                // The remote gave it, or will say that it is missing.
                (Producer::Stage { .. }, false) if remote.is_some() => {}
                (Producer::Stage { index, .. }, false) => {
                    return Err(Early::End(StageEnd::InputMissing(index)));
                }
            }
        }
        self.send_artifacts(&here, remote)
    }

    fn bring_uses(&self, request: &JobRequest, remote: Option<&str>) -> Result<(), Early> {
        let sources = self.context.planner.sources();
        for (path, file) in sources.uses(self.stage())? {
            if !self.context.store.is_intact(&file.artifact)? {
                self.keep(&file.artifact, &format!("`{path}` under `uses`"), |to| {
                    Ok(sources.copy_file(&file, to)?)
                })?;
            }
        }
        self.send_artifacts(&request.uses.values().copied().collect::<Vec<_>>(), remote)
    }

    fn send_artifacts(&self, artifacts: &[ArtifactRef], remote: Option<&str>) -> Result<(), Early> {
        let Some(name) = remote else { return Ok(()) };
        let store = &self.context.store;
        let remotes = store.remotes().ok_or_else(|| {
            Early::Failed(format!(
                "the remote `{name}` of its executor is not used in this call (`--offline`)"
            ))
        })?;
        remotes.send_artifacts(store, name, artifacts, Sending::default())?;
        Ok(())
    }

    /// Takes a file of the user into the store, without an action that names it.
    fn keep(
        &self,
        artifact: &ArtifactRef,
        what: &str,
        copy: impl FnOnce(&std::path::Path) -> Result<ArtifactRef, Early>,
    ) -> Result<(), Early> {
        let store = &self.context.store;
        let folder = intent::folder(store, &self.job.key).join("bring");
        crate::cas::disk::remove_tree(&folder)?;
        std::fs::create_dir_all(&folder)?;
        let to = folder.join("file");
        if copy(&to)? != *artifact {
            return Err(Early::End(StageEnd::Changed(what.to_owned())));
        }
        let staged = store.collect(&to, &[]).map_err(|e| Early::Failed(e.to_string()))?;
        let pending = crate::cas::PendingCommit { outputs: vec![staged], ..Default::default() };
        store.commit(vec![pending]).into_iter().try_for_each(|kept| kept.map(drop))?;
        crate::cas::disk::remove_tree(&folder)?;
        Ok(())
    }

    /// Submits until the cluster takes the job. One that did not answer may have taken it: it is looked for first.
    async fn submit_until_taken(&self, site: &Site, intent: &Intent, script: &str) -> Result<String, Early> {
        let name = intent.name();
        let mail = intent::folder(&self.context.store, &intent.key).join(&intent.submission);
        let output = match intent.remote {
            Some(_) => "/dev/null".to_owned(),
            None => std::path::absolute(mail.join("slurm.out"))?.to_string_lossy().into_owned(),
        };
        let resources = self.stage().resources;
        let comment = format!("kiln {}", intent.key);
        let job = Submission { name: &name, comment: &comment, resources, output: &output, script };
        let (mut wait, mut told) = (FIRST_WAIT, false);
        loop {
            let error = match slurm::submit(&site.spec, &job).await {
                Ok(id) => return Ok(id),
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(Early::Failed(error.to_string())),
            };
            self.waits_for_cluster(&error, &mut told);
            if self.context.cancellation.sleep(wait).await {
                return Err(Early::End(StageEnd::Interrupted));
            }
            wait = LONGEST_WAIT.min(wait * 2);
            let look = tokio::select! {
                look = site.watch.fresh(|_| {}) => look,
                () = self.context.cancellation.stopping() => return Err(Early::End(StageEnd::Interrupted)),
            };
            if let Some(job) = look.jobs.get(&name) {
                return Ok(job.id.clone());
            }
        }
    }

    /// Passes on what the job says until it has ended.
    async fn follow(self: &Arc<Self>, site: &Site, followed: &Followed) -> Result<Ending, Early> {
        let mut looks = site.watch.looks();
        let (mut said, mut state) = (0, away_end::Seen::default());
        site.watch.wake();
        loop {
            let (mail, submission) = (followed.mail.clone(), followed.intent.submission.clone());
            let news = blocking(self, move |run| run.news(&mail, &submission, said)).await;
            match news {
                Ok((_, Some(end))) => return Ok(Ending::Said(end)),
                Ok((number, None)) => said = number,
                // Whatever it is, the next look may go well.
                Err(error) => tracing::debug!("what a job says was not read: {error:?}"),
            }
            let look = looks.borrow_and_update().clone();
            if let Some(ending) = self.judge(&look, followed, &mut state).await {
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

    /// Reads what is new; gives the number of the last file, and the end.
    fn news(&self, mail: &Mail, submission: &str, from: u64) -> Result<(u64, Option<JobEnd>), Early> {
        // The end first: what was said before it is there, then.
        let end = end::read(mail, submission)?;
        let log = Log::open(&self.context.run.log_path(&self.stage().name.value))?;
        let number = outbox::read(mail, submission, from, &mut |said| match said {
            Said::Event(event) => (self.emit)(event),
            Said::Log(text) => text.lines().for_each(|line| log.line(line.as_bytes())),
        })?;
        Ok((number, end))
    }

    /// What the cluster says of a job that has not said its end.
    async fn judge(&self, look: &Look, followed: &Followed, seen: &mut away_end::Seen) -> Option<Ending> {
        if let Some(error) = look.error.as_ref().filter(|_| look.asked > seen.asked) {
            seen.asked = look.asked;
            self.waits_for_cluster(error, &mut seen.told_silence);
            return (!error.is_passing()).then(|| Ending::Failed(error.to_string()));
        }
        if look.answered <= seen.answered {
            return None;
        }
        (seen.answered, seen.told_silence) = (look.answered, false);
        let job = look.jobs.get(&followed.intent.name());
        if let Some(message) = seen.news(job) {
            self.note(message);
        }
        let is_over = job.is_none_or(|job| matches!(job.phase, Phase::Ended(_)));
        seen.over = if is_over { seen.over + 1 } else { 0 };
        if seen.over < AGREEING {
            return None;
        }
        Some(away_end::explain(job, &followed.intent, self.stage(), &self.context.store).await)
    }

    /// The error of a stage, with what the cluster says of its job: a stage that was killed may not know that it was out of
    /// memory.
    async fn with_cause(&self, site: &Site, followed: &Followed, error: String) -> String {
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
                format!("{} ({error})", away_end::out_of_memory(id, self.stage()))
            }
            _ => error,
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
                Err(Early::Failed(away_end::out_of_time(self.stage(), true)))
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
