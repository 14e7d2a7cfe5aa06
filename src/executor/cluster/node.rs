//! The job itself: one stage, on the machine where it runs.
//!
//! Purpose: read the request, recompute its key, and run the stage as every runner does: lock, look up, lease, fetch,
//! attempts, commit, send. Then say how it ended.
//! Invariant: nothing runs for a key that this machine would not make. Whether this job is the first or the third of its key
//! changes nothing: what another one has made is found, and what another one is making is left to it.
//! Must not know: who submitted the job, how.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::end::{self, JobEnd};
use super::engine;
use super::here::{other_key, providers, settings};
use super::intent;
use super::mail::Mail;
use super::outbox::{self, Outbox};
use super::request::{self, JobRequest};
use super::sending::Sending;
use crate::cas::Store;
use crate::cas::remote::Sending as SendingHow;
use crate::digest::Digest;
use crate::executor::backlog::Backlog;
use crate::executor::cancel::Cancellation;
use crate::executor::cgroup;
use crate::executor::commit::Committer;
use crate::executor::context::RunContext;
use crate::executor::job::{Job, StageEnd};
use crate::executor::log::Masks;
use crate::executor::machine::Machine;
use crate::executor::run::Uploads;
use crate::executor::scratch::Scratch;
use crate::executor::spares::Spares;
use crate::executor::stage::{StageRun, run_stage, take_over};
use crate::executor::{blocking, local::Local};
use crate::graph::{Graph, Producer};
use crate::plan::{Decision, Planner};
use crate::provider::environment;
use crate::sched::budget::Budget;
use crate::sched::{Event, StageEvent};

/// How long a signal to all processes of a job may take to arrive at this one.
const SIGNAL_ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How long the request may be on its way: clients of NFS remember for a while that a file was not there.
const LONGEST_WAY: Duration = Duration::from_secs(30);
/// How long a job stays that has found somebody else at its action.
const BEFORE_HELD: Duration = Duration::from_secs(10);

/// What a job was started with.
pub struct Call {
    /// The action key.
    pub key: Digest,
    /// The number of the submission.
    pub submission: String,
    /// The digest of the request.
    pub request: Digest,
    /// The store of this machine, which has its remotes.
    pub store: Arc<Store>,
    /// Where the runner is told things.
    pub mail: Mail,
}

/// How a job ended for the machine that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has done what it was asked to.
    Ok,
    /// It has failed.
    Failed,
    /// It was stopped, and can go on.
    Interrupted,
}

/// What stopped a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// Its time is nearly over.
    Time,
    /// Somebody, or something, takes its place.
    Signal,
}

/// Runs the stage of a job, and says how it ended.
///
/// # Errors
/// The end could not be said.
pub fn run(call: &Arc<Call>) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    let (stopped, end) = runtime.block_on(work(call));
    // A job that was stopped runs again and goes on, and says how it ended then. What a signal did to its stage is no
    // failure of the stage.
    let end = match (stopped, end) {
        (Some(Stopped::Time), None | Some(JobEnd::Failed { .. })) => JobEnd::OutOfTime,
        (Some(Stopped::Signal), Some(JobEnd::Failed { .. })) | (_, None) => return Ok(Outcome::Interrupted),
        (_, Some(end)) => end,
    };
    let said = end::write(&call.mail, &call.submission, &end);
    said.map_err(|e| format!("the end of the job was not said: {e}"))?;
    Ok(match end {
        JobEnd::Done { .. } | JobEnd::Held { .. } => Outcome::Ok,
        JobEnd::Failed { .. } | JobEnd::InputMissing { .. } => Outcome::Failed,
        JobEnd::OutOfTime => Outcome::Interrupted,
    })
}

/// What stopped the job, and its end; none where it was stopped before it came to one.
async fn work(call: &Arc<Call>) -> (Option<Stopped>, Option<JobEnd>) {
    let cancellation = Cancellation::default();
    let stopped = Arc::new(std::sync::OnceLock::new());
    watch_signals(&cancellation, &stopped);
    let stop = cancellation.clone();
    let end = match blocking(call, move |call| Node::prepare(call, &stop)).await {
        Ok(Prepared::Done(end)) => Some(end),
        Ok(Prepared::Run(node)) => node.run(call).await,
        Err(error) => Some(JobEnd::Failed { error }),
    };
    match end {
        // The signal that ended the stage may not have been heard here yet.
        Some(JobEnd::Failed { .. }) => tokio::time::sleep(SIGNAL_ON_ITS_WAY).await,
        // Who asks again at once would be told the same.
        Some(JobEnd::Held { .. }) => _ = cancellation.sleep(BEFORE_HELD).await,
        _ => {}
    }
    (stopped.get().copied(), end)
}

fn watch_signals(cancellation: &Cancellation, stopped: &Arc<std::sync::OnceLock<Stopped>>) {
    let kinds = [
        (SignalKind::user_defined1(), Stopped::Time),
        (SignalKind::terminate(), Stopped::Signal),
        (SignalKind::interrupt(), Stopped::Signal),
    ];
    for (kind, why) in kinds {
        let Ok(mut stream) = signal(kind) else { continue };
        let (cancellation, stopped) = (cancellation.clone(), Arc::clone(stopped));
        tokio::spawn(async move {
            // Slurm may say it more than once, and kills by itself when the time is over.
            while stream.recv().await.is_some() {
                if why == Stopped::Time {
                    tokio::time::sleep(engine::time_until_warning().await).await;
                }
                let _ = stopped.set(why);
                cancellation.stop();
            }
        });
    }
}

/// A stage that can run here.
struct Node {
    run: StageRun,
    outbox: Arc<Outbox>,
}

enum Prepared {
    Run(Box<Node>),
    /// There is nothing to run.
    Done(JobEnd),
}

impl Node {
    /// Reads the request and makes everything ready.
    fn prepare(call: &Call, cancellation: &Cancellation) -> Result<Prepared, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let (store, mail) = (&call.store, &call.mail);
        let request = read_request(call)?;
        let folder = intent::folder(store, &call.key).join(&call.submission);
        let (graph, stage) = (Arc::new(graph(&request, store, &folder)?), request.stage_index());
        let providers = Arc::new(providers(store, &request)?);
        let settings = settings(&request, &providers);
        let planner = Planner::new(Arc::clone(&graph), Arc::clone(store), settings).map_err(|e| text(&e))?;
        if request.resend {
            planner.forget_elsewhere(&call.key);
        }
        let (key_inputs, replace) = match decide(&planner, stage, &request, call)? {
            Decided::Run(key_inputs, replace) => (key_inputs, replace),
            Decided::Done(end) => return Ok(Prepared::Done(end)),
        };
        let run = store.history().begin_in(&folder, &request.pipeline).map_err(|e| text(&e))?;
        let run = Arc::new(run.on_behalf_of(&request.run));
        let last = outbox::read_all(mail, &call.submission, &mut |_| {}).map_err(|e| text(&e))?;
        let log = run.log_path(&request.stage.name.value);
        let outbox = Arc::new(Outbox::new(mail.clone(), &call.submission, log, last));
        let machine = Machine::look();
        let permit = Budget::new(machine.capacity(None)).acquire(request.stage.resources).unwrap_or_default();
        let caller = environment::caller();
        let secrets = environment::stage_environment(&request.stage, None, &caller).map_err(|e| {
            format!("on the node {}, {e}, or set it in the `prologue` of the executor", node_name())
        })?;
        let context = RunContext {
            graph,
            store: Arc::clone(store),
            planner: Arc::new(planner),
            providers,
            run,
            device: request.device.clone(),
            caller,
            masks: Masks::new(&secrets.secrets),
            backlog: Backlog::default(),
            cancellation: cancellation.clone(),
            machine,
            spares: Spares::new(&store.root().join("work")),
            committer: Committer::start(Arc::clone(store)),
            uploads: Uploads::new(Arc::clone(store)),
        };
        let job = Job { stage, key: call.key, key_inputs, inputs: request.inputs.clone(), replace };
        let scratch = Scratch::at(store.work(&call.key));
        let events = Arc::clone(&outbox);
        let run = StageRun {
            context: Arc::new(context),
            job: Arc::new(job),
            scratch,
            permit,
            executor: Arc::new(Local::default()),
            emit: Arc::new(move |event| events.say(event)),
        };
        Ok(Prepared::Run(Box::new(Self { run, outbox })))
    }

    /// Runs the stage; none where it was stopped before its end.
    async fn run(self: Box<Self>, call: &Arc<Call>) -> Option<JobEnd> {
        let Self { run, outbox } = *self;
        let (context, scratch) = (Arc::clone(&run.context), run.scratch.clone());
        let (stage, mail) = (run.job.stage, call.mail.clone());
        let sending = Sending::start(call, &scratch, &outbox).await;
        let clock = std::time::Instant::now();
        let killed = cgroup::oom_kills();
        let end = run_stage(run, || {}).await;
        if cgroup::oom_kills() > killed {
            let message = "a process of it was killed, since its job was out of memory".to_owned();
            outbox.say(StageEvent::Note { message });
        }
        let shared = context.uploads.finish(&Cancellation::default()).await;
        let end = match end {
            StageEnd::Ran { .. } => Some(match unsent(&shared).filter(|_| mail.is_remote()) {
                None => JobEnd::Done { seconds: Some(clock.elapsed().as_secs_f64()) },
                Some(error) => JobEnd::Failed { error },
            }),
            StageEnd::Found(_) => Some(match blocking(call, send).await {
                Ok(()) => JobEnd::Done { seconds: None },
                Err(error) => JobEnd::Failed { error },
            }),
            StageEnd::Held { holder, .. } => Some(JobEnd::Held { holder: holder.to_string() }),
            StageEnd::HeldElsewhere(holder) => Some(JobEnd::Held { holder }),
            StageEnd::InputMissing(producer) => {
                let inputs = context.graph.inputs(stage);
                let missing = inputs
                    .iter()
                    .find(|input| matches!(input.from, Producer::Stage { index, .. } if index == producer));
                Some(JobEnd::InputMissing { input: missing.map_or("", |input| input.name).to_owned() })
            }
            StageEnd::Changed(what) => Some(JobEnd::Failed { error: format!("{what} changed on the node") }),
            StageEnd::Interrupted | StageEnd::Detached(_) => None,
            StageEnd::Failed { error, .. } => Some(JobEnd::Failed { error: context.masks.text(error) }),
        };
        sending.finish().await;
        end
    }
}

/// The stage with its inputs, in a project of its own that has its `uses`.
fn graph(request: &JobRequest, store: &Store, folder: &Path) -> Result<Graph, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let root = folder.join("project");
    let uses: Vec<_> = request.uses.values().copied().collect();
    if store.remotes().is_some() {
        store.fetch(&uses, &[]).map_err(|e| text(&e))?;
    }
    crate::cas::disk::remove_tree(&root).map_err(|e| text(&e))?;
    fs::create_dir_all(&root).map_err(|e| text(&e))?;
    request.place_uses(store, &root).map_err(|e| text(&e))?;
    request.graph(&root).map_err(|errors| {
        let errors = errors.iter().map(|error| error.message.clone());
        format!("the request does not fit together: {}", errors.collect::<Vec<_>>().join("; "))
    })
}

fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn read_request(call: &Call) -> Result<JobRequest, String> {
    let name = "request.json";
    let read = || call.mail.get(&[&call.submission, name], request::MOST_BYTES).map_err(|e| e.to_string());
    let since = std::time::Instant::now();
    let bytes = loop {
        match read()? {
            Some(bytes) => break bytes,
            None if since.elapsed() > LONGEST_WAY => {
                return Err(
                    "the request of the job is not in the store or the remote; was it removed?".to_owned()
                );
            }
            None => std::thread::sleep(Duration::from_secs(1)),
        }
    };
    if Digest::of_bytes(&bytes) != call.request {
        return Err("the request of the job is not the one that was submitted".to_owned());
    }
    let request: JobRequest = serde_json::from_slice(&bytes).map_err(|e| {
        format!("the request of the job is not understood ({e}); is another version of kiln on the node?")
    })?;
    match request.format == request::FORMAT && request.key == call.key {
        true => Ok(request),
        false => Err(format!("the request of the job has the format `{}`", request.format)),
    }
}

/// Why a result was not sent, if it was not.
fn unsent(shared: &[Event]) -> Option<String> {
    shared.iter().find_map(|event| match event {
        Event::Shared(shared) if shared.failed > 0 => {
            let why = shared.error.clone().unwrap_or_default();
            Some(format!("its result was not sent to `{}`: {why}", shared.remote))
        }
        _ => None,
    })
}

/// Sends a result that is here already, where the runner takes it from a remote. Blocks on the network.
fn send(call: &Call) -> Result<(), String> {
    let store = &call.store;
    let (Some(remotes), true) = (store.remotes(), call.mail.is_remote()) else { return Ok(()) };
    let action = store.action(&call.key).map_err(|e| e.to_string())?;
    let action = action.ok_or("its result is not in the store of the node any more")?;
    let sent = remotes.send(Arc::clone(store), Arc::new(action), SendingHow::default(), None);
    let failed = remotes.wait(sent).unwrap_or_default().into_iter().find_map(|pushed| pushed.sent.err());
    failed.map_or(Ok(()), |error| Err(format!("its result was not sent: {error}")))
}

enum Decided {
    Run(serde_json::Value, bool),
    Done(JobEnd),
}

/// Recomputes the key, and looks whether the result is there already.
fn decide(planner: &Planner, stage: usize, request: &JobRequest, call: &Call) -> Result<Decided, String> {
    let decision = planner.decide(stage, &request.inputs).map_err(|e| e.to_string())?;
    let same = |key: Digest, key_inputs: &serde_json::Value| match key == call.key {
        true => Ok(()),
        false => Err(other_key(request, key_inputs)),
    };
    match decision {
        Decision::Run { key, key_inputs, replace, .. } => {
            same(key, &key_inputs)?;
            Ok(Decided::Run(key_inputs, replace))
        }
        Decision::Cached { key, action } => {
            same(key, &action.key_inputs.value())?;
            // A job that was stopped may have made it and not sent it.
            send(call)?;
            Ok(Decided::Done(JobEnd::Done { seconds: None }))
        }
        Decision::Fetch { key, found, .. } => {
            same(key, &found.action.key_inputs.value())?;
            // The remote has it, and the runner takes it from there.
            let _ = take_over(&call.store, &found.action, false);
            Ok(Decided::Done(JobEnd::Done { seconds: None }))
        }
    }
}
