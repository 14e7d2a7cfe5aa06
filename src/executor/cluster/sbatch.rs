//! The options of `sbatch`.
//!
//! Purpose: from what a stage needs and what the description of an executor says to the words of the command.
//! Invariant: what Kiln finds and follows a job by stands last, so that no option of the executor changes it.
//! Must not know: how a command is run, what becomes of the job.

use std::time::Duration;

use super::engine::Submission;
use crate::spec::executors::ExecutorSpec;

/// How long before its time limit a job is told, so that it can write a checkpoint: a tenth of its time, within these.
const SHORTEST_WARNING: u64 = 10;
const LONGEST_WARNING: u64 = 120;

/// A path as `--output` takes it. A backslash has Slurm leave percent signs alone.
fn output(path: &str) -> String {
    if path.contains('\\') { path.replace('\\', r"\\") } else { path.replace('%', "%%") }
}

/// The options of a submission. Those of the executor stand before the ones by which Kiln finds and follows the job.
pub(super) fn arguments(spec: &ExecutorSpec, job: &Submission<'_>) -> Vec<String> {
    // Limits of the login node are not for the job.
    let mut all = vec!["--requeue".to_owned(), "--propagate=NONE".to_owned()];
    let resources = job.resources;
    match resources.cpus {
        0 => all.push("--exclusive".to_owned()),
        cpus => all.push(format!("--cpus-per-task={cpus}")),
    }
    if resources.memory > 0 && !spec.options.iter().any(|option| option.starts_with("--mem")) {
        // Slurm counts whole MiB.
        all.push(format!("--mem={}M", resources.memory.div_ceil(1 << 20)));
    }
    let time = resources.time.or(spec.time);
    all.extend(time.map(|time| format!("--time={}", clock(time))));
    match &spec.gres {
        Some(gres) => all.push(format!("--gres={}", with_gpus(gres, resources.gpus))),
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
    let ours = ["--parsable", "--open-mode=append", "--export=NONE", "--nodes=1", "--ntasks=1", "--chdir=/"];
    all.extend(ours.map(str::to_owned));
    all.push(format!("--signal=B:USR1@{}", time.map_or(LONGEST_WARNING, warning)));
    all.extend([
        format!("--job-name={}", job.name),
        format!("--comment={}", job.comment),
        format!("--output={}", output(job.output)),
    ]);
    all
}

/// How long before its end a job with this time limit writes its checkpoint, in seconds.
pub(super) fn warning(limit: Duration) -> u64 {
    (limit.as_secs() / 10).clamp(SHORTEST_WARNING, LONGEST_WARNING)
}

/// The generic resources of the executor, such as `gpu:a100:1`, with as many GPUs as the stage asks for.
fn with_gpus(gres: &str, gpus: u32) -> String {
    let resource = |resource: &str| {
        let is_gpu = resource == "gpu" || resource.starts_with("gpu:");
        if !is_gpu || gpus == 0 {
            return resource.to_owned();
        }
        let is_count = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let kind =
            resource.rsplit_once(':').filter(|(_, count)| is_count(count)).map_or(resource, |(kind, _)| kind);
        format!("{kind}:{gpus}")
    };
    gres.split(',').map(resource).collect::<Vec<_>>().join(",")
}

/// A time limit as Slurm reads it: `days-hours:minutes:seconds`. Slurm counts whole minutes, upwards.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs().max(1);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days}-{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::types::Resources;

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
    fn a_stage_says_how_many_gpus_and_an_executor_of_which_kind() {
        for (gres, gpus, wanted) in [
            ("gpu:a100:1", 4, "gpu:a100:4"),
            ("gpu:a100", 2, "gpu:a100:2"),
            ("gpu:2", 1, "gpu:1"),
            ("gpu:2,disk:9", 3, "gpu:3,disk:9"),
            ("gpu:2", 0, "gpu:2"),
        ] {
            assert_eq!(with_gpus(gres, gpus), wanted);
        }
    }
}
