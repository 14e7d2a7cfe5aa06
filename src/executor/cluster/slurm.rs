//! Slurm, by its commands.
//!
//! Purpose: submit a job with `sbatch`, look at all jobs of this user with one `squeue`, cancel with `scancel`, and ask
//! `scontrol` how one ended.
//! Invariant: a job gets its script on stdin and none of the runner's environment, so that no secret goes through the
//! controller. What these commands print is judged by what it says, for their exit codes say little.
//! Must not know: stages, keys, what a job does.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::spec::executors::ExecutorSpec;
use crate::spec::types::Resources;

/// How long a command of Slurm may take: a controller that does not answer is tried again by the command itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long before its time limit a job is told, so that it can write a checkpoint: a tenth of its time, within these.
const SHORTEST_WARNING: u64 = 10;
const LONGEST_WARNING: u64 = 120;
/// What the commands print when the controller does not answer or is too busy.
const UNREACHABLE: [&str; 9] = [
    "Unable to contact slurm controller",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Connection timed out",
    "Slurm backup controller in standby mode",
    "Transport endpoint is not connected",
    "Resource temporarily unavailable",
    "Insane message length",
];
/// What `sbatch` prints when there are too many jobs at the moment.
const FULL: [&str; 4] = ["job submit limit", "AssocMaxSubmitJobLimit", "QOSMaxSubmitJob", "MaxJobCount"];

/// Why a command of Slurm gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlurmError {
    /// The command is not on this machine.
    #[error(
        "cannot start `{0}`: {1}; is Slurm on this machine? (`kiln run --executor local` runs the stages here)"
    )]
    Missing(&'static str, String),
    /// The controller does not answer.
    #[error("the controller of Slurm does not answer: {0}")]
    Unreachable(String),
    /// The cluster takes no more jobs of this user now.
    #[error("Slurm takes no more jobs now: {0}")]
    Full(String),
    /// It refuses.
    #[error("`{0}` refuses: {1}")]
    Refused(&'static str, String),
}

impl SlurmError {
    /// Whether to wait and to try again is right.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Full(_))
    }
}

/// A job to submit.
#[derive(Debug, Clone)]
pub struct Submission<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is about, for people.
    pub comment: &'a str,
    /// What it needs.
    pub resources: Resources,
    /// Where the system's messages of the job go; a path on the node.
    pub output: &'a str,
    /// Its script.
    pub script: &'a str,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits, or will run again.
    Queued,
    /// It waits and will never run by itself.
    Held,
    /// It runs.
    Running,
    /// It has ended.
    Ended(Cause),
}

/// Why a job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its script has ended, well or not.
    Exit,
    /// It used more memory than it asked for.
    Memory,
    /// It used more time than it asked for.
    Time,
    /// Somebody cancelled it.
    Cancelled,
    /// Its node failed, or another job took its place, and Slurm did not queue it again.
    Lost,
}

/// A job of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// The state as Slurm calls it.
    pub state: String,
    /// Why it waits, as Slurm says.
    pub reason: String,
    /// Where it runs.
    pub nodes: String,
}

impl Job {
    /// Whether it waits or runs.
    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }
}

/// Submits a job; gives its id.
///
/// # Errors
/// Slurm does not answer, or refuses.
pub async fn submit(spec: &ExecutorSpec, job: &Submission<'_>) -> Result<String, SlurmError> {
    let printed = run("sbatch", &arguments(spec, job), job.script).await?;
    // `ID` or `ID;CLUSTER`.
    let id = printed.trim().split(';').next().unwrap_or_default().to_owned();
    let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    is_id.then_some(id).ok_or_else(|| SlurmError::Refused("sbatch", one_line(&printed)))
}

fn arguments(spec: &ExecutorSpec, job: &Submission<'_>) -> Vec<String> {
    let mut all: Vec<String> = [
        "--parsable",
        "--requeue",
        "--open-mode=append",
        "--export=NONE",
        "--nodes=1",
        "--ntasks=1",
        "--chdir=/",
    ]
    .map(str::to_owned)
    .into();
    let time = job.resources.time.or(spec.time);
    let warning =
        time.map_or(LONGEST_WARNING, |time| (time.as_secs() / 10).clamp(SHORTEST_WARNING, LONGEST_WARNING));
    all.push(format!("--signal=B:USR1@{warning}"));
    let Submission { name, comment, resources, output, .. } = job;
    all.extend([format!("--job-name={name}"), format!("--comment={comment}"), format!("--output={output}")]);
    match resources.cpus {
        0 => all.push("--exclusive".to_owned()),
        cpus => all.push(format!("--cpus-per-task={cpus}")),
    }
    if resources.memory > 0 {
        // Slurm counts whole MiB.
        all.push(format!("--mem={}M", resources.memory.div_ceil(1 << 20)));
    }
    if let Some(time) = time {
        all.push(format!("--time={}", clock(time)));
    }
    match &spec.gres {
        Some(gres) => all.push(format!("--gres={gres}")),
        None if resources.gpus > 0 => all.push(format!("--gres=gpu:{}", resources.gpus)),
        None => {}
    }
    let named = [
        ("partition", &spec.partition),
        ("account", &spec.account),
        ("qos", &spec.qos),
        ("constraint", &spec.constraint),
    ];
    all.extend(named.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
    all.extend(spec.options.iter().cloned());
    all
}

/// A time limit as Slurm reads it: `days-hours:minutes:seconds`. Slurm counts whole minutes, upwards.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs().max(1);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days}-{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// All jobs of this user by name, those that have ended a while ago as well. Of several with one name, the newest.
///
/// # Errors
/// Slurm does not answer.
pub async fn jobs() -> Result<HashMap<String, Job>, SlurmError> {
    let user = format!("--user={}", rustix::process::getuid().as_raw());
    let format = "--format=%i|%j|%T|%r|%N";
    let arguments = ["--noheader".into(), "--states=all".into(), user, format.into()];
    // It refuses nothing; what it complains about may be over soon.
    let printed = run("squeue", &arguments, "").await.map_err(|error| match error {
        SlurmError::Refused(_, why) => SlurmError::Unreachable(why),
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
    const FOR_EVER: [&str; 11] = [
        "JobHeldUser",
        "JobHeldAdmin",
        "launch failed requeued held",
        "DependencyNeverSatisfied",
        "BadConstraints",
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "InvalidAccount",
        "InvalidQOS",
        "QOSMaxWallDurationPerJobLimit",
        "AssocMaxWallDurationPerJobLimit",
    ];
    FOR_EVER.iter().any(|known| reason.contains(known))
}

/// Cancels jobs. Those that have ended already are no error.
///
/// # Errors
/// Slurm does not answer.
pub async fn cancel(ids: &[String]) -> Result<(), SlurmError> {
    for some in ids.chunks(100) {
        match run("scancel", some, "").await {
            Err(error @ (SlurmError::Missing(..) | SlurmError::Unreachable(_))) => return Err(error),
            Err(error) => tracing::debug!("{error}"),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Cancels the job of a name, whose id is not known.
///
/// # Errors
/// Slurm does not answer.
pub async fn cancel_named(name: &str) -> Result<(), SlurmError> {
    let user = format!("--user={}", rustix::process::getuid().as_raw());
    run("scancel", &[user, format!("--name={name}")], "").await.map(drop)
}

/// The exit code and the signal of a job that has ended, while Slurm remembers it.
pub async fn exit_of(id: &str) -> Option<(i32, i32)> {
    let printed =
        run("scontrol", &["--oneliner".into(), "show".into(), "job".into(), id.into()], "").await.ok()?;
    let code = printed.split_whitespace().find_map(|field| field.strip_prefix("ExitCode="))?;
    let (code, signal) = code.split_once(':')?;
    Some((code.parse().ok()?, signal.parse().ok()?))
}

async fn run(program: &'static str, arguments: &[String], input: &str) -> Result<String, SlurmError> {
    let mut command = Command::new(program);
    // Ctrl-C is for the runner alone.
    command.process_group(0);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Its settings for every job of the user would change what was asked for.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["SBATCH_", "SQUEUE_", "SCANCEL_", "SLURM_CLUSTERS"].iter().any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => SlurmError::Missing(program, error.to_string()),
        _ => SlurmError::Unreachable(format!("cannot start `{program}`: {error}")),
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
        return Err(SlurmError::Unreachable(why));
    };
    let output = output.map_err(missing)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    Err(if says(&UNREACHABLE) || output.status.code().is_none() {
        SlurmError::Unreachable(one_line(&said))
    } else if says(&FULL) {
        SlurmError::Full(one_line(&said))
    } else {
        SlurmError::Refused(program, one_line(&said))
    })
}

/// A message in one line, without the name of the program that printed it.
fn one_line(text: &str) -> String {
    const MOST: usize = 500;
    let lines = text.lines().map(|line| {
        let line = line.trim();
        line.split_once(": error: ").map_or(line, |(_, rest)| rest)
    });
    let joined = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    joined.chars().filter(|c| !c.is_control()).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_the_resources_of_its_stage_and_what_the_executor_says() {
        let mut spec = ExecutorSpec::new("gpu", crate::spec::types::Span::default());
        (spec.partition, spec.options) = (Some("long".into()), vec!["--exclusive".into()]);
        spec.time = Some(Duration::from_secs(90_061));
        let resources = Resources { cpus: 4, memory: (3 << 30) + 1, gpus: 2, time: None };
        let job = Submission { name: "n", comment: "c", resources, output: "/o", script: "" };
        let all = arguments(&spec, &job).join(" ");
        for wanted in
            ["--cpus-per-task=4", "--mem=3073M", "--gres=gpu:2", "--partition=long", "--time=1-01:01:01"]
        {
            assert!(all.contains(wanted), "{wanted}: {all}");
        }
        let all_cores = Submission { resources: Resources::default(), ..job };
        assert!(arguments(&spec, &all_cores).join(" ").contains("--exclusive"));
    }

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
            ("7|kiln-a-0|A_STATE_OF_THE_FUTURE|None|", Phase::Queued),
        ] {
            assert_eq!(phase_of(line), Some(phase), "{line}");
        }
        assert_eq!(parse("slurm_load_jobs error"), None);
    }
}
