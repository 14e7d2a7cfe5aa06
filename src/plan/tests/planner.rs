//! What the planner decides.

use super::{Project, reasons, states};
use crate::digest::Digest;
use crate::plan::types::Cause;
use crate::plan::{PlanError, State};

const CHAIN: &str = "
pipeline: chain
sources:
  text: { path: text.txt, type: corpus }
stages:
  first:
    kind: command
    inputs: { text: text }
    params: { size: 3 }
    run: cut {inputs.text} {params.size} > {outputs.out}
    outputs: { out: any }
  second:
    kind: command
    inputs: { x: first }
    run: sort {inputs.x} > {outputs.out}
    outputs: { out: any }
  third:
    kind: train
    inputs: { corpus: second }
    params: { steps: 5 }
";

fn chain() -> Project {
    let project = Project::new();
    project.write("text.txt", "hello");
    project
}

#[test]
fn a_new_pipeline_runs_at_the_top_and_may_run_below() {
    let plan = chain().plan(CHAIN);
    assert_eq!(states(&plan), ["first=run", "second=maybe", "third=maybe"]);
    assert_eq!(plan.stages[0].reasons[0].cause, Cause::NeverRan);
    assert_eq!(plan.stages[1].waits_on, ["first"]);
    assert!(plan.stages[0].key.is_some() && plan.stages[1].key.is_none());
}

#[test]
fn after_a_run_everything_is_cached_and_knows_its_outputs() {
    let project = chain();
    assert_eq!(project.run(CHAIN), ["first", "second", "third"]);
    let plan = project.plan(CHAIN);
    assert_eq!(states(&plan), ["first=cached", "second=cached", "third=cached"]);
    assert!(plan.summary().is_fresh());
    assert_eq!(plan.stages[2].outputs["model"].artifact.unwrap().digest, Digest::of_bytes(b"third.model"));
    assert_eq!(project.run(CHAIN), Vec::<String>::new());
}

#[test]
fn planning_writes_nothing() {
    let project = chain();
    project.plan(CHAIN);
    assert!(!project.root().join("artifacts").exists());
}

#[test]
fn cosmetic_edits_change_nothing() {
    let project = chain();
    project.run(CHAIN);
    let renamed = CHAIN.replace("params: { steps: 5 }", "params: { steps: 5.0 } # a comment");
    let slower = renamed.replace(
        "    outputs: { out: any }\n  second:",
        "    outputs: { out: any }\n    retries: 3\n    timeout: 1h\n    resources: { cpus: 7 }\n  second:",
    );
    assert_ne!(slower, renamed);
    assert!(project.plan(&slower).summary().is_fresh());
}

#[test]
fn a_renamed_stage_and_a_renamed_pipeline_stay_fresh() {
    let project = chain();
    project.run(CHAIN);
    let renamed = CHAIN.replace("first", "uno").replace("pipeline: chain", "pipeline: other");
    assert_eq!(states(&project.plan(&renamed)), ["uno=cached", "second=cached", "third=cached"]);
}

#[test]
fn a_changed_param_says_old_and_new_and_its_line() {
    let project = chain();
    project.run(CHAIN);
    let plan = project.plan(&CHAIN.replace("size: 3", "size: 4"));
    assert_eq!(states(&plan), ["first=run", "second=maybe", "third=maybe"]);
    assert_eq!(reasons(&plan, "first"), ["params.size \"3\" \"4\" @9"]);
    assert_eq!(plan.stages[0].last.as_ref().unwrap().provenance.run, "r-0001");
}

#[test]
fn a_removed_param_makes_the_stage_stale() {
    let project = chain();
    let before = CHAIN.replace("{ steps: 5 }", "{ steps: 5, model: { layers: 9 } }");
    project.run(&before);
    let plan = project.plan(CHAIN);
    assert_eq!(states(&plan), ["first=cached", "second=cached", "third=run"]);
    assert_eq!(reasons(&plan, "third"), ["params.model.layers 9 2 @17"]);
    // A default that is written out is no change.
    let written = CHAIN.replace("{ steps: 5 }", "{ steps: 5, rate: 1e-3 }");
    project.run(CHAIN);
    assert!(project.plan(&written).summary().is_fresh());
}

#[test]
fn a_stage_whose_upstream_gives_the_same_bytes_is_kept() {
    let project = chain();
    project.run(CHAIN);
    let changed = CHAIN.replace("size: 3", "size: 4");
    assert_eq!(project.run(&changed), ["first"]);
    assert!(project.plan(&changed).summary().is_fresh());
}

#[test]
fn a_stage_whose_upstream_gives_other_bytes_runs_and_names_the_input() {
    let project = chain();
    project.run(CHAIN);
    let changed = CHAIN.replace("size: 3", "size: 4");
    let ran = project.run_with(&changed, |stage, _| (stage == "first").then(|| "new".into()));
    assert_eq!(ran, ["first", "second"]);
    // And back: everything is known already.
    assert_eq!(project.run(CHAIN), Vec::<String>::new());
}

#[test]
fn a_changed_source_says_which_input_changed() {
    let project = chain();
    project.run(CHAIN);
    project.write("text.txt", "hello!");
    let plan = project.plan(CHAIN);
    let (old, new) = (Digest::of_bytes(b"hello"), Digest::of_bytes(b"hello!"));
    assert_eq!(reasons(&plan, "first"), [format!("inputs.text \"{old}\" \"{new}\" @8")]);
    assert_eq!(plan.stages[0].reasons[0].from.as_deref(), Some("text"));
}

#[test]
fn a_source_that_is_touched_but_not_changed_makes_nothing_stale() {
    let project = chain();
    project.run(CHAIN);
    project.write("text.txt", "hello");
    assert!(project.plan(CHAIN).summary().is_fresh());
}

#[test]
fn a_waiting_stage_tells_its_own_changes_too_and_not_the_inputs_it_waits_for() {
    let project = chain();
    project.run(CHAIN);
    let changed = CHAIN.replace("size: 3", "size: 4").replace("steps: 5", "steps: 6");
    let plan = project.plan(&changed);
    assert_eq!(reasons(&plan, "third"), ["waits on - - @17", "params.steps 5 6 @20"]);
    assert_eq!(plan.stage("second").unwrap().reasons.len(), 1);
}

#[test]
fn a_lost_output_makes_its_stage_run_again() {
    let project = chain();
    project.run(CHAIN);
    project.lose(&Digest::of_bytes(b"second.out"));
    let plan = project.plan(CHAIN);
    assert_eq!(states(&plan), ["first=cached", "second=run", "third=maybe"]);
    assert_eq!(plan.stages[1].reasons[0].cause, Cause::OutputsMissing);
    assert_eq!(project.run(CHAIN), ["second"]);
}

#[test]
fn a_damaged_output_makes_its_stage_run_again() {
    let project = chain();
    project.run(CHAIN);
    project.lose(&Digest::of_bytes(b"second.out"));
    let hex = Digest::of_bytes(b"second.out").to_string();
    project.write(&format!("artifacts/blobs/{}/{}", &hex[..2], &hex[2..]), "not what it was");
    assert_eq!(project.run(CHAIN), ["second"]);
}

#[test]
fn a_forced_stage_runs_even_though_it_is_fresh() {
    let mut project = chain();
    project.run(CHAIN);
    project.forced.insert("second".into());
    let plan = project.plan(CHAIN);
    assert_eq!(states(&plan), ["first=cached", "second=run", "third=maybe"]);
    assert_eq!(plan.stages[1].reasons[0].cause, Cause::Forced);
    project.forced.insert("third".into());
    assert_eq!(project.plan(CHAIN).stages[2].state, State::Run);
    assert_eq!(project.run(CHAIN), ["second", "third"]);
}

#[test]
fn a_file_under_uses_is_hashed_and_must_be_there() {
    let project = chain();
    let yaml = CHAIN.replace("    run: sort", "    uses: [sort.sh]\n    run: sort");
    assert!(matches!(project.try_plan(&yaml), Err(PlanError::NoUses { stage, .. }) if stage == "second"));
    project.write("sort.sh", "one");
    project.run(&yaml);
    project.write("sort.sh", "two");
    let plan = project.plan(&yaml);
    assert_eq!(plan.stages[1].reasons[0].what, "uses.sort.sh");
    assert_eq!(plan.stages[1].reasons[0].span.start.line, 15);
    std::fs::remove_file(project.root().join("sort.sh")).unwrap();
    assert!(matches!(project.try_plan(&yaml), Err(PlanError::NoUses { stage, .. }) if stage == "second"));
}

#[test]
fn a_changed_command_env_or_output_type_makes_a_command_stale() {
    let project = chain();
    project.run(CHAIN);
    let plan = project.plan(&CHAIN.replace("sort {", "sort -r {"));
    assert_eq!(plan.stages[1].reasons[0].cause, Cause::Command);
    let plan = project.plan(&CHAIN.replace("    run: sort", "    env: { LANG: C }\n    run: sort"));
    assert_eq!(reasons(&plan, "second"), ["env.LANG - \"C\" @12"]);
}

#[test]
fn a_bumped_revision_makes_a_kind_stale_and_a_changed_program_is_only_told() {
    let mut project = chain();
    project.facts.program = Some(Digest::of_bytes(b"one"));
    project.run(CHAIN);
    project.facts.program = Some(Digest::of_bytes(b"two"));
    let plan = project.plan(CHAIN);
    assert!(plan.summary().is_fresh());
    assert!(plan.stages[2].notes[0].contains("--force third"), "{:?}", plan.stages[2].notes);
    project.offer.revision = 2;
    assert_eq!(reasons(&project.plan(CHAIN), "third"), ["revision 1 2 @17"]);
}

#[test]
fn numerics_count_for_exact_stages_only() {
    let mut project = chain();
    let exact = CHAIN.replace("    params: { steps: 5 }", "    cache: exact\n    resources: { cpus: 0 }");
    let loose = exact.replace("exact", "portable").replace("    cache: portable\n", "");
    project.facts.numerics.insert("device".into(), "cpu".into());
    project.run(&loose);
    project.run(&exact);
    project.facts.numerics.insert("device".into(), "cuda".into());
    project.cores = 8;
    let plan = project.plan(&exact);
    assert_eq!(reasons(&plan, "third"), ["numerics.device \"cpu\" \"cuda\" @17", "numerics.threads 2 8 @17"]);
    assert!(project.plan(&loose).summary().is_fresh());
}

#[test]
fn a_missing_source_is_named_with_its_line() {
    let project = Project::new();
    let error = project.try_plan(CHAIN).unwrap_err();
    assert_eq!(
        error.place().map(|(span, code)| (span.start.line, code.to_string())),
        Some((4, "no-source".to_owned()))
    );
    assert!(error.to_string().contains("`text.txt`"), "{error}");
}

#[test]
fn an_action_with_other_outputs_than_the_stage_is_no_hit() {
    // A record that was tampered with, or that an older provider left.
    let project = chain();
    project.run(CHAIN);
    let plan = project.plan(CHAIN);
    let mut action = (**plan.stages[0].last.as_ref().unwrap()).clone();
    action.outputs.clear();
    let hex = action.key.to_string();
    let path = project.root().join(format!("artifacts/actions/{}/{}", &hex[..2], &hex[2..]));
    let text = serde_json::to_string(&action).unwrap();
    std::fs::write(&path, crate::digest::sealed::seal(&text)).unwrap();
    let plan = project.plan(CHAIN);
    assert_eq!(states(&plan)[0], "first=run");
    assert_eq!(plan.stages[0].reasons[0].cause, Cause::OutputUnrecorded);
    assert_eq!(crate::report::text::reason(&plan.stages[0].reasons[0]), "its record lacks the output `out`");
}

#[test]
fn a_provider_that_adds_an_output_makes_its_stages_stale_once() {
    let mut project = chain();
    project.run(CHAIN);
    project.offer.outputs.push("log");
    let plan = project.plan(CHAIN);
    assert_eq!(reasons(&plan, "third"), ["outputs.log - \"any\" @17"]);
    assert_eq!(project.run(CHAIN), ["third"]);
    assert!(project.plan(CHAIN).summary().is_fresh());
}

#[test]
fn an_input_that_nobody_gave_is_an_error_and_never_left_out() {
    let project = chain();
    let graph = project.graph(CHAIN);
    let second = graph.index("second").unwrap();
    let error = project.planner(graph).decide(second, &Default::default()).unwrap_err();
    assert!(matches!(&error, PlanError::MissingInput { input, .. } if input == "x"), "{error}");
    assert!(error.to_string().contains("reads `first` as its input `x`"), "{error}");
}

#[test]
fn two_providers_of_one_kind_and_revision_share_no_results() {
    let mut project = chain();
    project.run(CHAIN);
    project.facts.name = "other".into();
    assert_eq!(reasons(&project.plan(CHAIN), "third"), ["provider \"test\" \"other\" @17"]);
}

#[test]
fn an_exact_stage_is_refused_where_its_threads_are_missing_and_found_where_they_were() {
    let mut project = chain();
    let exact = CHAIN.replace("    params: { steps: 5 }", "    cache: exact\n    resources: { cpus: 4 }");
    project.cores = 4;
    project.run(&exact);
    project.cores = 2;
    assert!(project.plan(&exact).summary().is_fresh());
    project.forced.insert("third".into());
    let error = project.try_plan(&exact).unwrap_err();
    assert_eq!(
        error.place().map(|(span, code)| (span.start.line, code.to_string())),
        Some((17, "too-few-cores".to_owned()))
    );
    assert!(error.to_string().contains("asks for 4 cores, but this machine has 2"), "{error}");
}

#[test]
fn a_folder_under_uses_and_its_listed_files_are_the_same_and_each_file_has_its_reason() {
    let project = chain();
    project.write("lib/a.py", "a");
    project.write("lib/deep/b.py", "b");
    let with = |uses: &str| CHAIN.replace("    run: sort", &format!("    uses: {uses}\n    run: sort"));
    project.run(&with("[lib]"));
    for same in
        ["[lib/a.py, lib/deep/b.py]", "[./lib//a.py, lib/deep]", "[lib, 'lib/*.py']", "['lib/**/*.py']"]
    {
        assert!(project.plan(&with(same)).summary().is_fresh(), "{same}");
    }
    project.write("lib/__pycache__/a.pyc", "made by python");
    project.write("lib/.#a.py", "an editor");
    assert!(project.plan(&with("[lib]")).summary().is_fresh());
    project.write("lib/a.py", "c");
    project.write("lib/new.py", "n");
    let plan = project.plan(&with("[lib]"));
    let what: Vec<_> = plan.stages[1].reasons.iter().map(|r| (r.what.as_str(), r.span.start.line)).collect();
    assert_eq!(what, [("uses.lib/a.py", 15), ("uses.lib/new.py", 15)]);
}

#[test]
fn an_executable_bit_of_a_source_or_used_file_changes_the_key() {
    use std::os::unix::fs::PermissionsExt;
    let project = chain();
    project.write("sort.sh", "one");
    let yaml = CHAIN.replace("    run: sort", "    uses: [sort.sh]\n    run: sort");
    project.run(&yaml);
    for (file, stage, reason) in [("text.txt", "first", "inputs.text"), ("sort.sh", "second", "uses.sort.sh")]
    {
        let path = project.root().join(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let plan = project.plan(&yaml);
        assert_eq!(plan.stage(stage).unwrap().reasons.last().unwrap().what, reason);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(project.plan(&yaml).summary().is_fresh());
    }
}

#[test]
fn a_forecast_is_what_the_last_run_took_and_made() {
    let project = chain();
    assert_eq!(project.plan(CHAIN).stages[0].seconds, None);
    project.run(CHAIN);
    let plan = project.plan(&CHAIN.replace("size: 3", "size: 4"));
    assert_eq!((plan.stages[0].seconds, plan.stages[0].bytes), (Some(1.0), Some("first.out".len() as u64)));
}

#[test]
fn a_planner_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<crate::plan::Planner>();
}
