//! Ray, by its Jobs API.
//!
//! Purpose: submit a job by one request, list all jobs by one, stop jobs, and ask how one ended.
//! Invariant: the id of a job is its name, so that a job that was sent twice is there once. What is read is bounded.
//! Must not know: stages, keys, what a job does, other engines.
//!
//! The API: <https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html>. Ray does not bound the
//! time or the memory of a job; the time is bounded here, by `timeout` of coreutils.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::{Cause, ClusterError, Exit, Job, Phase, Submission, one_line};
use crate::cas::remote::chain;
use crate::spec::executors::ExecutorSpec;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of an answer: some hundred thousand jobs.
const MOST_BYTES: usize = 256 << 20;
/// How long a job has to write a checkpoint when its time is over, in seconds.
const GRACE: u64 = 120;
/// The variable with which Ray lets in who may submit jobs.
const TOKEN: &str = "RAY_AUTH_TOKEN";
/// How many lines of the output of a job are kept.
const TAIL: usize = 20;

/// A job as Ray lists it.
#[derive(Deserialize)]
struct Listed {
    submission_id: Option<String>,
    status: String,
    message: Option<String>,
    driver_exit_code: Option<i32>,
    driver_node_id: Option<String>,
}

/// Submits a job; gives its id.
pub(super) async fn submit(spec: &ExecutorSpec, job: &Submission<'_>) -> Result<String, ClusterError> {
    let body = request(spec, job).to_string();
    match ask(spec, Method::POST, "", Some(body)).await {
        // An answer that was lost, and a second question.
        Err(ClusterError::Refused { why, .. }) if why.contains("already exists") => {}
        answer => _ = answer?,
    }
    Ok(job.name.to_owned())
}

fn request(spec: &ExecutorSpec, job: &Submission<'_>) -> Value {
    let Submission { name, comment, resources, script, .. } = job;
    let quoted = format!("'{}'", script.replace('\'', r"'\''"));
    let mut entrypoint = format!("exec bash -c {quoted}");
    if let Some(time) = resources.time.or(spec.time) {
        entrypoint = format!(
            "exec timeout --signal=USR1 --kill-after={GRACE} {} bash -c {quoted}",
            time.as_secs().max(1)
        );
    }
    // A whole node is nothing that Ray knows: all cores are as many as there are here.
    let here = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let cpus = if resources.cpus == 0 { here } else { resources.cpus };
    let mut request = json!({
        "submission_id": name,
        "entrypoint": entrypoint,
        "entrypoint_num_cpus": cpus,
        "metadata": { "kiln": comment },
    });
    if resources.gpus > 0 {
        request["entrypoint_num_gpus"] = json!(resources.gpus);
    }
    if resources.memory > 0 {
        request["entrypoint_memory"] = json!(resources.memory);
    }
    request
}

/// All jobs by name.
pub(super) async fn jobs(spec: &ExecutorSpec) -> Result<HashMap<String, Job>, ClusterError> {
    let bytes = ask(spec, Method::GET, "", None).await?;
    let listed: Vec<Listed> = serde_json::from_slice(&bytes)
        .map_err(|e| silent(spec, &format!("its list of jobs is not understood: {e}")))?;
    let named = listed.into_iter().filter_map(|listed| {
        let id = listed.submission_id.clone()?;
        Some((id.clone(), job(id, listed)))
    });
    Ok(named.collect())
}

fn job(id: String, listed: Listed) -> Job {
    let phase = match listed.status.as_str() {
        "RUNNING" => Phase::Running,
        "SUCCEEDED" => Phase::Ended(Cause::Exit),
        // Its script has an exit code; a job without one has lost its node.
        "FAILED" if listed.driver_exit_code.is_some() => Phase::Ended(Cause::Exit),
        "FAILED" => Phase::Ended(Cause::Lost),
        "STOPPED" => Phase::Ended(Cause::Cancelled),
        _ => Phase::Queued,
    };
    let (reason, nodes) = (listed.message.unwrap_or_default(), listed.driver_node_id.unwrap_or_default());
    Job { id, phase, state: listed.status, reason: one_line(&reason), nodes }
}

/// Stops jobs. Those that have ended already, and those that Ray does not know, are no error.
pub(super) async fn cancel(spec: &ExecutorSpec, ids: &[String]) -> Result<(), ClusterError> {
    for id in ids {
        match ask(spec, Method::POST, &format!("{id}/stop"), None).await {
            Err(error @ ClusterError::Unreachable { .. }) => return Err(error),
            Err(error) => tracing::debug!("{error}"),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// How the script of a job ended, with the end of what it printed.
pub(super) async fn exit_of(spec: &ExecutorSpec, id: &str) -> Exit {
    let listed = ask(spec, Method::GET, id, None).await.ok();
    let listed = listed.and_then(|bytes| serde_json::from_slice::<Listed>(&bytes).ok());
    let printed = ask(spec, Method::GET, &format!("{id}/logs"), None).await.ok();
    let printed = printed.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default();
    let lines: Vec<_> = printed["logs"].as_str().unwrap_or_default().lines().map(str::to_owned).collect();
    let code = listed.and_then(|listed| listed.driver_exit_code);
    // A shell counts signals from 128, Python below 0.
    let signal = code.and_then(|code| if code < 0 { code.checked_neg() } else { Some(code - 128) });
    let last = lines.len().saturating_sub(TAIL);
    Exit { code, signal: signal.filter(|signal| (1..=64).contains(signal)), printed: lines[last..].to_vec() }
}

/// Sends a request; gives the answer of one that went well.
async fn ask(
    spec: &ExecutorSpec,
    method: Method,
    path: &str,
    body: Option<String>,
) -> Result<Vec<u8>, ClusterError> {
    let url = format!("{}/api/jobs/{path}", spec.address().unwrap_or_default());
    let mut request = client().map_err(|e| silent(spec, &e))?.request(method, url);
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body);
    }
    let failed = |error: reqwest::Error| silent(spec, &chain(&error));
    let mut answer = request.send().await.map_err(failed)?;
    let (status, mut bytes) = (answer.status(), Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MOST_BYTES {
            return Err(silent(spec, &format!("its answer has more than {MOST_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(bytes);
    }
    Err(refusal(spec, status, &String::from_utf8_lossy(&bytes)))
}

/// What an answer means that is none.
fn refusal(spec: &ExecutorSpec, status: StatusCode, said: &str) -> ClusterError {
    // It prints where in its own code it was; what went wrong stands at the end.
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let why = format!("{status}: {}", one_line(last));
    let is_starting = said.contains("No available agent");
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            silent(spec, &why)
        }
        StatusCode::TOO_MANY_REQUESTS => ClusterError::Full(why),
        _ if is_starting => silent(spec, &why),
        _ => ClusterError::Refused { who: who(spec), why },
    }
}

fn who(spec: &ExecutorSpec) -> String {
    format!("Ray at {}", spec.address().unwrap_or_default())
}

fn silent(spec: &ExecutorSpec, why: &str) -> ClusterError {
    ClusterError::Unreachable { who: who(spec), why: one_line(why) }
}

/// The client of this process. It keeps no connection: each call may be of another runtime.
fn client() -> Result<&'static Client, String> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let made = CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder().timeout(PATIENCE).pool_max_idle_per_host(0);
        builder.redirect(reqwest::redirect::Policy::none()).build().map_err(|e| chain(&e))
    });
    made.as_ref().map_err(Clone::clone)
}
