//! Processes that a command leaves behind: all of them end by themselves, or nothing is kept.

use std::time::{Duration, Instant};

use crate::helpers::{odd, processes_with, stage, stages};

/// How a script can leave a program running: `@P@` stands for the program.
const WAYS: [&str; 8] = [
    "@P@ &",
    "nohup @P@ > /dev/null 2>&1 &",
    "setsid @P@ < /dev/null > /dev/null 2>&1 &",
    "( (@P@) & ) &",
    "@P@ &\ndisown -a",
    "echo x > >(@P@)",
    "(exec -a renamed @P@) > /dev/null 2>&1 &",
    "python3 -c 'import os, sys\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.closerange(0, 3)\n    os.execvp(sys.argv[1], sys.argv[1:])' @P@",
];

#[test]
fn what_runs_on_in_the_background_is_waited_for_and_its_output_is_whole() {
    let scripts: Vec<_> = WAYS
        .iter()
        .map(|way| {
            let program = "bash -c \"sleep 0.3; echo second >> {outputs.o}\"";
            format!("echo first > {{outputs.o}}\n{}", way.replace("@P@", program))
        })
        .collect();
    let names: Vec<_> = (0..scripts.len()).map(|i| format!("s{i}")).collect();
    let all: Vec<_> =
        names.iter().zip(&scripts).map(|(name, script)| (name.as_str(), "", script.as_str())).collect();
    let p = stages(&all);
    p.run();
    for (name, script) in names.iter().zip(&scripts) {
        assert_eq!(p.out(&format!("p/{name}/o")), "first\nsecond\n", "{script}");
    }
}

#[test]
fn what_outlives_linger_is_killed_and_named_and_nothing_is_kept() {
    let marker = format!("9{}", std::process::id());
    let scripts: Vec<_> = WAYS
        .iter()
        .map(|way| format!("echo first > {{outputs.o}}\n{}", way.replace("@P@", &format!("sleep {marker}"))))
        .collect();
    let names: Vec<_> = (0..scripts.len()).map(|i| format!("s{i}")).collect();
    let all: Vec<_> = names
        .iter()
        .zip(&scripts)
        .map(|(name, script)| (name.as_str(), "linger: 300ms", script.as_str()))
        .collect();
    let p = stages(&all);
    let ran = p.run_with(&["--keep-going"]);
    for (name, script) in names.iter().zip(&scripts) {
        let error = ran.error(name);
        assert!(
            error.contains(&marker) && error.contains("was still running and was killed"),
            "{script}: {error}"
        );
    }
    assert!(p.states(&[]).iter().all(|state| state.ends_with("=run")));
    assert_eq!(processes_with(&marker), Vec::<String>::new());
}

#[test]
fn one_that_dies_by_a_signal_after_its_shell_fails_the_stage() {
    for (signal, number) in [("KILL", 9), ("SEGV", 11)] {
        let p = stage("", &format!("echo first > {{outputs.o}}\nbash -c 'sleep 0.3; kill -{signal} $$' &"));
        let ran = p.run_with(&[]);
        assert!(ran.error("s").contains(&format!("died by signal {number}")), "{}", ran.error("s"));
        assert_eq!(p.states(&[]), ["s=run"]);
    }
}

#[test]
fn a_failed_command_does_not_wait_for_what_it_left() {
    let start = Instant::now();
    let ran = stage("", "sleep 3000 &\nexit 3").run_with(&[]);
    assert!(ran.error("s").starts_with("exit code 3"), "{}", ran.error("s"));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_provider_is_held_to_the_same() {
    let ran = odd("leave", ", linger: 300ms").run_with(&[]);
    assert!(ran.error("s").contains("sleep 3001"), "{}", ran.error("s"));
    assert_eq!(processes_with("sleep 3001"), Vec::<String>::new());
}
