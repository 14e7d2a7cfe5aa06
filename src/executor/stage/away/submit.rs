//! Handing a stage to a cluster.
//!
//! Purpose: put inputs, `uses` and the request where the job finds them, write down the intent, and submit the job.
//! Invariant: the intent is durable before the cluster is asked; a cluster that did not answer may have taken the job, so it
//! is looked for before it is submitted again.
//! Must not know: what becomes of the job.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::Followed;
use crate::cas::During;
use crate::cas::remote::{Lease, Sending};
use crate::cas::types::ArtifactRef;
use crate::digest::Digest;
use crate::executor::blocking;
use crate::executor::cluster::Site;
use crate::executor::cluster::engine::{self, ClusterError, Submission};
use crate::executor::cluster::intent::{self, Intent};
use crate::executor::cluster::request::JobRequest;
use crate::executor::cluster::script::{self, Place};
use crate::executor::job::StageEnd;
use crate::executor::stage::life::{Early, StageRun};
use crate::graph::Producer;

/// The first and the longest wait before a job is submitted again to a cluster that does not take it.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a run that is to stop waits for the answer to a submission.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);

impl StageRun {
    /// Hands the stage over.
    pub(super) async fn submit(self: &Arc<Self>, site: &Arc<Site>) -> Result<Followed, Early> {
        let turn = self.turn(site).await?;
        let remote = site.spec.remote.clone();
        let submitted_by = Arc::clone(site);
        let (mut intent, script, lease) =
            blocking(self, move |run| run.hand_over(&submitted_by, remote.as_deref())).await?;
        let id = self.submit_until_taken(site, turn, &intent, &script).await?;
        intent.job = Some(id);
        let known = intent.clone();
        blocking(self, move |run| intent::write(&run.context.store, &known)).await?;
        self.submitted(&intent, false);
        site.watch.wake();
        let mail = self.mail(intent.remote.as_deref());
        Ok(Followed { intent, mail, is_over: false, lease })
    }

    /// Waits until not too many others submit.
    async fn turn<'a>(&self, site: &'a Site) -> Result<Option<SemaphorePermit<'a>>, Early> {
        tokio::select! {
            turn = site.submitting.acquire() => Ok(turn.ok()),
            () = self.context.cancellation.stopping() => Err(Early::End(StageEnd::Interrupted)),
        }
    }

    /// Writes everything that the job needs, and the intent. Blocks on disk and network.
    fn hand_over(&self, site: &Site, remote: Option<&str>) -> Result<(Intent, String, Option<Lease>), Early> {
        let (store, key) = (&self.context.store, &self.job.key);
        // Whoever runs it here, without a job, has the lock of the key.
        if remote.is_none()
            && let Some(holder) = store.holder(key)?
        {
            return Err(Early::End(StageEnd::Held { holder, lock: *key }));
        }
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
            forced: self.job.replace,
            memory: self.stage().resources.memory,
            address: site.spec.address().map(str::to_owned),
            submission,
            job: None,
            since: format!("{:.0}", jiff::Timestamp::now()),
            run: self.context.run.id().to_owned(),
            remote: remote.map(str::to_owned),
        };
        intent::write(store, &intent)?;
        let root = std::path::absolute(store.root()).during("find", store.root())?;
        let url = remote.and_then(|name| Some((name, self.remote_url(name)?)));
        let demands_signatures = store.trust().demanded;
        let place = Place { program: &site.program, store: &root, remote: url, demands_signatures };
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
    async fn submit_until_taken(
        self: &Arc<Self>,
        site: &Site,
        turn: Option<SemaphorePermit<'_>>,
        intent: &Intent,
        script: &str,
    ) -> Result<String, Early> {
        let name = intent.name();
        let mail = intent::folder(&self.context.store, &intent.key).join(&intent.submission);
        let output = match intent.remote {
            Some(_) => "/dev/null".to_owned(),
            None => std::path::absolute(mail.join("slurm.out"))?.to_string_lossy().into_owned(),
        };
        let resources = self.stage().resources;
        let comment = format!("kiln {}", intent.key);
        let job = Submission { name: &name, comment: &comment, resources, output: &output, script };
        let (mut wait, mut told, mut turn) = (FIRST_WAIT, false, turn);
        loop {
            let error = match self.ask(site, &job).await {
                Ok(id) => return Ok(id),
                Err(error) => error,
            };
            // Others need not wait for this one.
            turn.take();
            if error.is_passing() {
                self.waits_for_cluster(&error, &mut told);
                if self.context.cancellation.sleep(wait).await {
                    return Err(Early::End(self.unanswered(site, intent, &error).await));
                }
                wait = LONGEST_WAIT.min(wait * 2);
            }
            let look = tokio::select! {
                look = site.watch.fresh(|_| {}) => look,
                () = self.context.cancellation.stopping() => {
                    return Err(Early::End(self.unanswered(site, intent, &error).await));
                }
            };
            if let Some(job) = look.jobs.get(&name) {
                return Ok(job.id.clone());
            }
            if !error.is_passing() {
                let _ = blocking(self, |run| intent::forget(&run.context.store, &run.job.key)).await;
                return Err(Early::Failed(error.to_string()));
            }
            turn = match self.turn(site).await {
                Ok(turn) => turn,
                // It waits for its turn once more, and the job may be there.
                Err(_) => return Err(Early::End(self.unanswered(site, intent, &error).await)),
            };
        }
    }

    /// Submits once. A run that is to stop waits for an answer no longer than one usually takes.
    async fn ask(&self, site: &Site, job: &Submission<'_>) -> Result<String, ClusterError> {
        let stopped = async {
            self.context.cancellation.stopping().await;
            tokio::time::sleep(LONGEST_ANSWER).await;
        };
        tokio::select! {
            submitted = engine::submit(&site.spec, job) => submitted,
            () = stopped => Err(ClusterError::Unreachable {
                who: site.spec.name.clone(),
                why: "the run was interrupted before it answered".to_owned(),
            }),
        }
    }

    /// What becomes of a submission that the cluster has not answered when the run is to stop: the job may be there.
    async fn unanswered(self: &Arc<Self>, site: &Site, intent: &Intent, error: &ClusterError) -> StageEnd {
        let name = intent.name();
        let is_refused = matches!(error, ClusterError::Full(_));
        if is_refused || site.cancels() && engine::cancel_named(&site.spec, &name).await.is_ok() {
            let _ = blocking(self, |run| intent::forget(&run.context.store, &run.job.key)).await;
            return StageEnd::Interrupted;
        }
        StageEnd::Detached(format!(
            "{} may have taken its job, and did not answer; the next run looks for {name}",
            intent.executor
        ))
    }
}
