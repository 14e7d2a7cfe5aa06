//! Slurm, by its commands.
//!
//! Purpose: submit a job with `sbatch`, look at all jobs of this user with one `squeue`, cancel with `scancel`, and ask
//! `scontrol` how one ended.
//! Invariant: a job gets its script on stdin and none of the runner's environment, so that no secret goes through the
//! controller. What these commands print is judged by what it says, for their exit codes say little.
//! Must not know: stages, keys, what a job does, other engines.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::engine::{Cause, ClusterError, Exit, Job, Phase, Submission, one_line};
use super::intent::PREFIX;
use super::sbatch::{arguments, warning};
use crate::spec::executors::ExecutorSpec;

/// How long a command of Slurm may take: a controller that does not answer is tried again by the command itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a job whose time is nearly over waits for an answer.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);
/// What the commands print when the controller does not answer, is too busy, or cannot be asked at the moment.
const UNREACHABLE: [&str; 16] = [
    "Unable to contact slurm controller",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Connection timed out",
    "Slurm backup controller in standby mode",
    "Transport endpoint is not connected",
    "Resource temporarily unavailable",
    "Insane message length",
    "Protocol authentication error",
    "Unable to process configuration file",
    "Could not establish a configuration source",
    "Communication connection failure",
    "Message receive failure",
    "Unexpected message received",
    "I/O error writing script/environment to file",
];
/// What `sbatch` prints when a job breaks a rule; which rule stands before it, where Slurm says so at all.
const POLICY: &str = "Job violates accounting/QOS policy";
/// Rules on how many jobs there may be, which a job that ends makes room for.
const FULL: [&str; 4] =
    ["MaxSubmitJob", "GrpSubmitJob", "MaxJobCount", "Slurm temporarily unable to accept job"];
/// What `scancel` prints of a job that needs no cancelling.
const OVER: [&str; 3] = ["Invalid job id", "already completing or completed", "Job/step already completing"];
/// Variables of the caller that stay: where the configuration is, and the token with which it may ask.
const KEPT: [&str; 3] = ["SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"];
/// Variables that change what is asked for, or that `sbatch` gives to the job whatever `--export` says.
const REMOVED: [&str; 6] = ["SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SPANK_", "PMI"];

/// Submits a job; gives its id.
///
/// # Errors
/// Slurm does not answer, or refuses.
pub async fn submit(spec: &ExecutorSpec, job: &Submission<'_>) -> Result<String, ClusterError> {
    let printed = run("sbatch", &arguments(spec, job), job.script).await?;
    // It took the job. One that does not say which is looked for by its name.
    id_in(&printed).ok_or_else(|| silent(&format!("`sbatch` gave no id of a job: {printed}")))
}

/// The id of a job, `ID` or `ID;CLUSTER`, in a line of its own: some sites print more.
fn id_in(printed: &str) -> Option<String> {
    let ids = printed.lines().rev().map(|line| line.trim().split(';').next().unwrap_or_default());
    let is_id = |id: &&str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    ids.into_iter().find(is_id).map(str::to_owned)
}

/// How long a job that was told that its time is nearly over may still work: Slurm may tell it up to a minute too early.
/// Nothing outside of a job, or when Slurm does not answer.
pub async fn time_until_warning() -> Duration {
    let Ok(id) = std::env::var("SLURM_JOB_ID") else { return Duration::ZERO };
    let asked = ["--noheader".to_owned(), format!("--job={id}"), "--format=%L|%l".to_owned()];
    // One that does not answer in time must not cost the checkpoint.
    let answer = tokio::time::timeout(SHORT_PATIENCE, run("squeue", &asked, "")).await;
    let printed = answer.ok().and_then(Result::ok).unwrap_or_default();
    let times = printed
        .trim()
        .split_once('|')
        .and_then(|(left, limit)| Some((read_clock(left)?, read_clock(limit)?)));
    times.map_or(Duration::ZERO, |(left, limit)| left.saturating_sub(Duration::from_secs(warning(limit))))
}

/// A time as Slurm prints it: `[days-][[hours:]minutes:]seconds`.
fn read_clock(text: &str) -> Option<Duration> {
    let (days, clock) = text.trim().split_once('-').unwrap_or(("0", text.trim()));
    let parts = clock.split(':').map(|part| part.parse::<u64>().ok());
    let seconds = parts.clone().try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(part?))?;
    (parts.count() <= 3).then(|| Duration::from_secs(days.parse::<u64>().unwrap_or(0) * 86_400 + seconds))
}

/// All jobs of Kiln of this user by name, those that have ended a while ago as well. Of several with one name, the newest.
///
/// # Errors
/// Slurm does not answer.
pub async fn jobs() -> Result<HashMap<String, Job>, ClusterError> {
    let user = format!("--user={}", rustix::process::getuid().as_raw());
    let format = "--format=%i|%j|%T|%r|%N";
    let arguments = ["--noheader".into(), "--states=all".into(), "--all".into(), user, format.into()];
    // It refuses nothing; what it complains about may be over soon.
    let printed = run("squeue", &arguments, "").await.map_err(|error| match error {
        ClusterError::Refused { why, .. } => silent(&why),
        error => error,
    })?;
    let mut all: HashMap<String, Job> = HashMap::new();
    for (name, job) in printed.lines().filter_map(parse) {
        let number = |job: &Job| job.id.parse::<u64>().unwrap_or(0);
        match all.get(&name) {
            Some(known) if number(known) > number(&job) => {}
            _ => _ = all.insert(name, job),
        }
    }
    Ok(all)
}

/// A line of `squeue`.
fn parse(line: &str) -> Option<(String, Job)> {
    let mut fields = line.splitn(5, '|').map(str::trim);
    let (id, name, state) = (fields.next()?, fields.next()?, fields.next()?);
    // What else the user runs is of no interest, however often it changes.
    if !name.starts_with(PREFIX) {
        return None;
    }
    let (reason, nodes) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let text = |text: &str| text.to_owned();
    let phase = phase(state, reason);
    Some((
        text(name),
        Job { id: text(id), phase, state: text(state), reason: text(reason), nodes: text(nodes) },
    ))
}

/// What a state of Slurm means. One that is not known may be any: it is waited for.
fn phase(state: &str, reason: &str) -> Phase {
    match state {
        "PENDING" if is_held(reason) => Phase::Held,
        "REQUEUE_HOLD" | "SPECIAL_EXIT" => Phase::Held,
        "RUNNING" | "COMPLETING" | "STAGE_OUT" | "SUSPENDED" | "STOPPED" | "SIGNALING" => Phase::Running,
        "COMPLETED" | "FAILED" => Phase::Ended(Cause::Exit),
        "OUT_OF_MEMORY" => Phase::Ended(Cause::Memory),
        "TIMEOUT" | "DEADLINE" => Phase::Ended(Cause::Time),
        "CANCELLED" | "REVOKED" => Phase::Ended(Cause::Cancelled),
        "NODE_FAIL" | "BOOT_FAIL" | "PREEMPTED" => Phase::Ended(Cause::Lost),
        _ => Phase::Queued,
    }
}

/// Reasons that do not go away by themselves.
fn is_held(reason: &str) -> bool {
    const FOR_EVER: [&str; 17] = [
        "JobHeldUser",
        "JobHeldAdmin",
        "launch failed requeued held",
        "job requeued in held state",
        "DependencyNeverSatisfied",
        "BadConstraints",
        "PartitionConfig",
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "InvalidAccount",
        "InvalidQOS",
        "ReservationDeleted",
        "MaxMemPerLimit",
        "PerJobLimit",
        "PerJob",
    ];
    FOR_EVER.iter().any(|known| reason.contains(known))
}

/// Cancels jobs. Those that have ended already are no error.
///
/// # Errors
/// Slurm does not answer.
pub async fn cancel(ids: &[String]) -> Result<(), ClusterError> {
    for some in ids.chunks(100) {
        match run("scancel", some, "").await {
            Err(ClusterError::Refused { why, .. }) if OVER.iter().any(|over| why.contains(over)) => {}
            cancelled => _ = cancelled?,
        }
    }
    Ok(())
}

/// Cancels the job of a name, whose id is not known.
///
/// # Errors
/// Slurm does not answer.
pub async fn cancel_named(name: &str) -> Result<(), ClusterError> {
    let user = format!("--user={}", rustix::process::getuid().as_raw());
    run("scancel", &[user, format!("--name={name}")], "").await.map(drop)
}

/// The exit code and the signal of a job that has ended, while Slurm remembers it.
pub async fn exit_of(id: &str) -> Exit {
    let asked = ["--oneliner".into(), "show".into(), "job".into(), id.into()];
    let printed = run("scontrol", &asked, "").await.unwrap_or_default();
    let field = printed.split_whitespace().find_map(|field| field.strip_prefix("ExitCode="));
    let (code, signal) = field.and_then(|field| field.split_once(':')).unzip();
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    Exit { code: number(code), signal: number(signal).filter(|signal| *signal > 0), printed: Vec::new() }
}

fn silent(said: &str) -> ClusterError {
    ClusterError::Unreachable { who: "the controller of Slurm".to_owned(), why: one_line(said) }
}

fn refused(program: &str, said: &str) -> ClusterError {
    ClusterError::Refused { who: format!("`{program}`"), why: one_line(said) }
}

async fn run(program: &'static str, arguments: &[String], input: &str) -> Result<String, ClusterError> {
    let mut command = Command::new(program);
    // Ctrl-C is for the runner alone.
    command.process_group(0);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if !KEPT.contains(&&*text) && REMOVED.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ClusterError::Missing(program, error.to_string()),
        _ => silent(&format!("cannot start `{program}`: {error}")),
    };
    let mut child = command.spawn().map_err(missing)?;
    let stdin = child.stdin.take();
    let answer = async {
        if let Some(mut stdin) = stdin {
            // One that ends early says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let Ok(output) = tokio::time::timeout(PATIENCE, answer).await else {
        let why = format!("`{program}` gave no answer for {} s", PATIENCE.as_secs());
        return Err(silent(&why));
    };
    let output = output.map_err(missing)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    // A rule that is not named may be one on the number of jobs.
    let is_unnamed =
        said.contains(POLICY) && said.lines().filter(|line| line.contains("error:")).count() == 1;
    Err(if says(&UNREACHABLE) || output.status.code().is_none() {
        silent(&said)
    } else if says(&FULL) || is_unnamed {
        ClusterError::Full(one_line(&said))
    } else {
        refused(program, &said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_squeue_says_where_a_job_stands() {
        let phase_of = |line: &str| parse(line).map(|(_, job)| job.phase);
        for (line, phase) in [
            ("7|kiln-a-0|RUNNING|None|n1", Phase::Running),
            ("7|kiln-a-0|PENDING|Resources|", Phase::Queued),
            ("7|kiln-a-0|PENDING|JobHeldUser|", Phase::Held),
            ("7|kiln-a-0|PENDING|launch failed requeued held|", Phase::Held),
            ("7|kiln-a-0|REQUEUED|None|", Phase::Queued),
            ("7|kiln-a-0|NODE_FAIL|NodeDown|n1", Phase::Ended(Cause::Lost)),
            ("7|kiln-a-0|OUT_OF_MEMORY|OutOfMemory|n1", Phase::Ended(Cause::Memory)),
            ("7|kiln-a-0|PENDING|QOSMaxCpuPerJobLimit|", Phase::Held),
            ("7|kiln-a-0|PENDING|job requeued in held state|", Phase::Held),
            ("7|kiln-a-0|A_STATE_OF_THE_FUTURE|None|", Phase::Queued),
        ] {
            assert_eq!(phase_of(line), Some(phase), "{line}");
        }
        assert_eq!(parse("slurm_load_jobs error"), None);
        assert_eq!(parse("7|somebody-else|RUNNING|None|n1"), None);
    }

    #[test]
    fn the_id_of_a_job_is_found_between_other_words() {
        for (printed, id) in [
            ("17\n", Some("17")),
            ("17;far\n", Some("17")),
            ("Welcome to the cluster 9\n\n17\nGoodbye\n", Some("17")),
            ("Submitted batch job\n", None),
            ("", None),
        ] {
            assert_eq!(id_in(printed).as_deref(), id, "{printed}");
        }
    }

    #[test]
    fn times_of_slurm_are_read() {
        for (text, seconds) in
            [("0:58", Some(58)), ("1:02:03", Some(3723)), ("2-00:00:01", Some(172_801)), ("UNLIMITED", None)]
        {
            assert_eq!(read_clock(text), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
