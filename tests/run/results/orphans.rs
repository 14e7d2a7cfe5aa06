//! Runners that are killed: nothing of theirs lives on, and what can be resumed is.

use std::fs;
use std::time::{Duration, Instant};

use crate::helpers::{processes_with, signal, stage, wait_until};
use crate::providers::provider;

#[test]
fn nothing_of_a_killed_runner_lives_on_even_for_a_key_that_was_abandoned() {
    let marker = format!("7{}", std::process::id());
    let ways = [
        format!("sleep {marker}"),
        format!("setsid sleep {marker} < /dev/null > /dev/null 2>&1 &\nsleep {marker}"),
        format!(
            "(setsid bash -c 'trap \"\" TERM INT HUP; (sleep {marker} &); sleep {marker}' &) > /dev/null 2>&1\nnohup sleep {marker} &\nwait\nsleep {marker}"
        ),
        format!("env -i setsid /bin/sleep {marker} &\nexec 1>&- 2>&-\nsleep {marker}"),
    ];
    for (i, way) in ways.iter().enumerate() {
        let p = stage("", &format!("echo first > {{outputs.o}}\ntouch @ROOT@/begun\n{way}"));
        fs::create_dir(p.path("artifacts")).unwrap();
        let mut runner = p.spawn(&["run"]);
        p.wait_for("begun");
        signal(&runner, "KILL");
        runner.wait().unwrap();
        if i % 2 == 0 {
            // Even if nobody runs again.
            wait_until("the processes of a killed runner to end", || processes_with(&marker).is_empty());
        }
        p.write("kiln.yaml", "pipeline: p\nstages:\n  s: { kind: command, run: 'echo other > {outputs.o}', outputs: { o: any } }\n");
        let start = Instant::now();
        p.run().expect_ran(&["s"]);
        assert!(start.elapsed() < Duration::from_secs(10), "{way}");
        wait_until("orphans to end", || processes_with(&marker).is_empty());
        assert_eq!(p.out("p/s/o"), "other\n");
    }
}

#[test]
fn what_outlives_runner_and_supervisor_both_is_ended_by_the_next_run() {
    let marker = format!("8{}", std::process::id());
    let p = stage("", &format!("touch @ROOT@/begun\nsetsid sleep {marker} &\nsleep {marker}"));
    fs::create_dir(p.path("artifacts")).unwrap();
    let mut runner = p.spawn(&["run"]);
    p.wait_for("begun");
    wait_until("two sleepers", || processes_with(&format!("sleep {marker}")).len() >= 2);
    // All of ours at once, as an out-of-memory killer or a container's end may do.
    let supervisors: Vec<String> = children_of(runner.id());
    let mut kill = std::process::Command::new("kill");
    kill.arg("-KILL").arg(runner.id().to_string()).args(&supervisors).status().unwrap();
    runner.wait().unwrap();
    p.edit("touch", "touch  ");
    p.edit(&format!("setsid sleep {marker} &\n      sleep {marker}"), "echo x > {outputs.o}");
    p.run();
    wait_until("orphans to end", || processes_with(&marker).is_empty());
}

/// The processes of a runner but for those of the stage itself.
fn children_of(runner: u32) -> Vec<String> {
    let entries =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids: Vec<_> = entries.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect();
    let mut family = vec![runner.to_string()];
    for _ in 0..4 {
        for pid in &pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
            let parent = rest.split(' ').nth(1).unwrap_or_default();
            if name.contains("(kiln") && family.iter().any(|known| known == parent) && !family.contains(pid) {
                family.push(pid.clone());
            }
        }
    }
    family.split_off(1)
}

#[test]
fn the_checkpoint_of_a_forced_stage_outlives_the_sweep_at_the_start_of_a_run() {
    let p = provider("{ steps: 60, pause_ms: 15 }");
    p.edit(
        "stages:\n",
        "stages:\n  other: { kind: command, run: 'echo 1 > {outputs.o}', outputs: { o: any } }\n",
    );
    p.run();
    let runner = p.spawn(&["run", "--force", "model"]);
    let steps =
        || fs::read_to_string(p.path("artifacts/runs/r-0002/metrics/model.jsonl")).unwrap_or_default();
    wait_until("some steps", || steps().lines().count() >= 5);
    signal(&runner, "INT");
    assert_eq!(runner.wait_with_output().unwrap().status.code(), Some(130));
    // A run of another stage sweeps; the forced one has an action and is resumed all the same.
    p.edit("echo 1", "echo 2");
    p.run().expect_ran(&["other"]);
    std::thread::sleep(Duration::from_millis(200));
    p.run_with(&["--force", "model"]).expect_ran(&["model"]);
    let log = fs::read_to_string(p.path("artifacts/runs/r-0004/logs/model.log")).unwrap();
    assert!(log.contains("resumed at"), "{log}");
}

#[test]
fn the_checkpoint_of_a_stage_that_is_made_again_outlives_the_sweep() {
    let p = provider("{ steps: 60, pause_ms: 15 }");
    p.run();
    let state = fs::canonicalize(p.path("artifacts/out/p/model/model/state.txt")).unwrap();
    fs::remove_file(&state).unwrap();
    let runner = p.spawn(&["run"]);
    let steps =
        || fs::read_to_string(p.path("artifacts/runs/r-0002/metrics/model.jsonl")).unwrap_or_default();
    wait_until("some steps", || steps().lines().count() >= 5);
    signal(&runner, "KILL");
    runner.wait_with_output().unwrap();
    p.run().expect_ran(&["model"]);
    let log = fs::read_to_string(p.path("artifacts/runs/r-0003/logs/model.log")).unwrap();
    assert!(log.contains("resumed at"), "{log}");
}
