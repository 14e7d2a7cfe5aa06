//! Commands: what they receive, where they run, what `--set` may change in them.

use crate::spec::testing::{Fake, load, load_with, options, short, short_errors};
use crate::spec::types::{EnvValue, Run, Sandbox, Stage, Work};

/// The stage `a` of a file.
fn stage(text: &str) -> Stage {
    let graph = load(text).map_err(|all| short(&all)).unwrap();
    graph.pipeline().stage("a").unwrap().clone()
}

fn param(stage: &Stage, name: &str) -> String {
    stage.params[name].value.as_str().unwrap().to_owned()
}

#[test]
fn a_scalar_reaches_a_command_as_it_is_written() {
    for (written, received) in [
        ("99999999999999999998", "99999999999999999998"),
        ("3.10", "3.10"),
        ("02134", "02134"),
        ("1e-5", "1e-5"),
        ("1E999", "1E999"),
        ("+0x10", "+0x10"),
        ("True", "True"),
        ("null", "null"),
        ("~", "~"),
        ("", ""),
        ("'null'", "null"),
        ("\"3.10\"", "3.10"),
        ("!!str 3.10", "3.10"),
        ("two words", "two words"),
        ("'${STEPS:-007}'", "007"),
    ] {
        let shared = format!("params: {{ p: {written} }}\nstages: {{ a: {{ run: 'echo {{params.p}}' }} }}");
        assert_eq!(param(&stage(&shared), "p"), received, "a shared {written}");
        let own = format!(
            "stages:\n  a:\n    run: 'x'\n    params: {{ p: {written} }}\n    env: {{ P: {written} }}"
        );
        let own = stage(&own);
        assert_eq!(param(&own, "p"), received, "{written}");
        assert_eq!(own.env["P"], EnvValue::Literal(received.to_owned()), "{written}");
    }
}

#[test]
fn lists_and_mappings_reach_a_command_as_json_with_their_numbers_as_written() {
    let list = "[3.10, 02134, 99999999999999999998, 1e999, .5, 0x10, '7', true, ~, { z: 1.0, a: \"q\\\"\" }]";
    let stage = stage(&format!("stages: {{ a: {{ run: x, params: {{ p: {list} }} }} }}"));
    let json = r#"[3.10,"02134",99999999999999999998,1e999,".5","0x10","7",true,null,{"a":"q\"","z":1.0}]"#;
    assert_eq!(param(&stage, "p"), json);
}

#[test]
fn the_new_keys_of_a_command_are_read() {
    let text = "\
ignore: ['*.pyc', build/]
stages:
  raw: { run: 'x > {outputs.d}', outputs: { d: any } }
  a:
    inputs: { data: { from: raw.d, at: ./data//prepared/ }, more: raw }
    run: python3 train.py
    shell: bash -eu
    uses: [./train.py, lib/*.py]
    outputs: { model: { type: any, path: model.pkl }, log: report }
    cwd: src/steps
    sandbox: strict
    linger: 5s
    platform: any
    resources: { gpus: 2 }
    env: { A: { pass: TOKEN_A }, B: { secret: TOKEN_B }, C: 1.0 }
";
    let graph = load(text).map_err(|all| short(&all)).unwrap();
    assert_eq!(graph.pipeline().ignore, ["*.pyc", "build/"]);
    let stage = stage(text);
    let Work::Command { run, shell, uses, cwd, sandbox } = &stage.work else { panic!("a command") };
    assert_eq!(*run, Run::Script("python3 train.py".into()));
    assert_eq!(shell, &["bash", "-eu"]);
    assert_eq!(uses.iter().map(|u| u.value.as_str()).collect::<Vec<_>>(), ["train.py", "lib/*.py"]);
    assert_eq!((cwd.as_ref().unwrap().value.as_str(), *sandbox), ("src/steps", Sandbox::Strict));
    assert_eq!(stage.places["data"].value, "data/prepared");
    assert_eq!(stage.places["data"].span.start.line, 5);
    assert!(!stage.places.contains_key("more") && !stage.output_paths.contains_key("log"));
    assert_eq!(stage.output_paths["model"].value, "model.pkl");
    assert_eq!((stage.linger.unwrap().as_secs(), stage.any_platform, stage.resources.gpus), (5, true, 2));
    assert_eq!(stage.env["A"], EnvValue::Pass("TOKEN_A".into()));
    assert_eq!(stage.env["B"], EnvValue::Secret("TOKEN_B".into()));
    assert_eq!(stage.env["C"], EnvValue::Literal("1.0".into()));
}

#[test]
fn a_script_runs_in_bash_and_stops_at_its_first_failing_line_unless_a_shell_is_named() {
    let shell = |keys: &str| match stage(&format!("stages: {{ a: {{ run: x {keys} }} }}")).work {
        Work::Command { shell, .. } => shell,
        _ => panic!("a command"),
    };
    assert_eq!(shell(""), ["bash", "-eo", "pipefail"]);
    assert_eq!(shell(", shell: sh"), ["sh"]);
    assert_eq!(shell(", shell: [zsh, -c x y]"), ["zsh", "-c x y"]);
}

#[test]
fn paths_that_lead_out_and_keys_with_wrong_values_are_errors() {
    let text = "\
sources: { s: x }
stages:
  a:
    inputs: { i: { from: s, at: /abs }, j: { at: x }, k: { from: s, att: y } }
    run: x
    shell: \"sh -c 'x'\"
    uses: [/etc/passwd, '../x', '', 3]
    outputs: { o: { type: any, path: a/../b }, p: { tipe: any } }
    cwd: .
    sandbox: of
    platform: linux
    env: { A: { pass: 3 }, B: { pas: X }, C: { pass: X, secret: Y } }
    resources: { gpu: 1 }
  t:
    kind: tokenizer
    inputs: { corpus: { from: s, at: here } }
    cwd: x
    sandbox: off
    shell: sh
    platform: any
  l: { run: [ls], shell: sh }
  o: { inputs: { i: { from: s, at: x } }, run: ls, sandbox: off, outputs: { o: { path: y } } }
";
    insta::assert_snapshot!(short_errors(text), @r#"
        outside-root 4:33 `at` of input `i` of stage `a` (kind command) `/abs` leads out of the project root (name a path below it, without a `/` at the start)
        missing-key 4:44 input `j` of stage `a` (kind command) has no `from`
        unknown-key 4:69 input `k` of stage `a` (kind command) has no key `att` (did you mean `at`?)
        type 6:12 `shell` of stage `a` (kind command) must be a program and its arguments, such as `sh` or `bash -eo pipefail` (write a list where a word holds spaces or quotes)
        outside-root 7:12 `uses` of stage `a` (kind command) `/etc/passwd` leads out of the project root (name a path below it, without a `/` at the start)
        outside-root 7:25 `uses` of stage `a` (kind command) `../x` leads out of the project root (name a path below it, without a `/` at the start)
        bad-path 7:33 `uses` of stage `a` (kind command) must be a path below a folder, without `..`, not ``
        type 7:37 `uses` of stage `a` (kind command) must be a string, not a number
        bad-path 8:38 `path` of output `o` of stage `a` (kind command) must be a path below a folder, without `..`, not `a/../b`
        unknown-key 8:53 output `p` of stage `a` (kind command) has no key `tipe` (did you mean `type`?)
        bad-path 9:10 `cwd` of stage `a` (kind command) must be a path below a folder, without `..`, not `.`
        choice 10:14 `sandbox` of stage `a` (kind command) must be `folder` or `strict` or `off` (did you mean `off`?)
        choice 11:15 `platform` of stage `a` (kind command) must be `any`
        type 12:15 `env.A` of stage `a` (kind command) must be a string (or `{ pass: NAME }` or `{ secret: NAME }`, with the name of a variable of the caller)
        type 12:31 `env.B` of stage `a` (kind command) must be a string (or `{ pass: NAME }` or `{ secret: NAME }`, with the name of a variable of the caller)
        type 12:46 `env.C` of stage `a` (kind command) must be a string (or `{ pass: NAME }` or `{ secret: NAME }`, with the name of a variable of the caller)
        unknown-key 13:18 `resources` of stage `a` (kind command) has no key `gpu` (did you mean `gpus`?)
        unknown-key 16:38 input `corpus` of stage `t` (kind tokenizer) has `at`, which only inputs of commands have
        unknown-key 17:5 stage `t` (kind tokenizer) has `cwd`, which only commands have
        unknown-key 18:5 stage `t` (kind tokenizer) has `sandbox`, which only commands have
        unknown-key 19:5 stage `t` (kind tokenizer) has `shell`, which only commands have
        unknown-key 20:5 stage `t` (kind tokenizer) has `platform`, which only commands have
        choice 21:26 `shell` of stage `l` (kind command) has no effect: its `run` is a list, which needs no shell (write `run` as a text, or leave out `shell`)
        choice 22:36 stage `o` (kind command) has `at: x` and `sandbox: off`, which runs in the project root and has no places of its own (take `{inputs.NAME}` and `{outputs.NAME}`, or another sandbox)
        choice 22:88 stage `o` (kind command) has `path: y` and `sandbox: off`, which runs in the project root and has no places of its own (take `{inputs.NAME}` and `{outputs.NAME}`, or another sandbox)
    "#);
}

#[test]
fn two_claims_on_one_place_are_an_error_that_names_both() {
    let text = "\
sources: { s: x }
stages:
  a: { inputs: { i: { from: s, at: data }, j: { from: s, at: data } }, run: x }
  b: { inputs: { i: { from: s, at: data } }, run: x, uses: [data/x.py] }
  c: { inputs: { i: s, j: { from: s, at: inputs } }, run: x }
  d: { run: x, outputs: { o: { path: out }, p: { path: out/p } } }
  e: { run: x, outputs: { o: any, p: { path: outputs } } }
  f: { inputs: { i: { from: s, at: lib/a.py } }, run: x, uses: ['lib/*.py'] }
  g: { inputs: { i: s }, run: x, outputs: { o: { path: inputs/i/o } } }
  fine: { inputs: { i: { from: s, at: lib/data } }, run: x, uses: ['lib/*.py', lib/a.py, lib/a.py] }
";
    insta::assert_snapshot!(short_errors(text), @r#"
        path-conflict 3:62 input `i` at `data` and input `j` at `data` of stage `a` (kind command) have the same place in its execution folder (give one of them another place: `at:` of an input, `path:` of an output)
        path-conflict 4:61 input `i` at `data` and `uses: data/x.py` at `data/x.py` of stage `b` (kind command) lie one inside the other in its execution folder (give one of them another place: `at:` of an input, `path:` of an output)
        path-conflict 5:42 input `i` at `inputs/i` and input `j` at `inputs` of stage `c` (kind command) lie one inside the other in its execution folder (give one of them another place: `at:` of an input, `path:` of an output)
        path-conflict 6:56 output `o` at `out` and output `p` at `out/p` of stage `d` (kind command) lie one inside the other in its execution folder (give one of them another place: `at:` of an input, `path:` of an output)
        path-conflict 7:46 output `o` at `outputs/o` and output `p` at `outputs` of stage `e` (kind command) lie one inside the other in its execution folder (give one of them another place: `at:` of an input, `path:` of an output)
        path-conflict 8:65 input `i` at `lib/a.py` and `uses: lib/*.py` at `lib/*.py` of stage `f` (kind command) lie one inside the other in its execution folder (give one of them another place: `at:` of an input, `path:` of an output)
        path-conflict 9:56 input `i` at `inputs/i` and output `o` at `inputs/i/o` of stage `g` (kind command) lie one inside the other in its execution folder (give one of them another place: `at:` of an input, `path:` of an output)
    "#);
}

/// What the params of the command `a` are with some `--set`.
fn set(values: &[&str]) -> Result<Stage, String> {
    let text = "\
params: { color: red, unused: 1 }
stages:
  a:
    params: { count: 3, model: { width: 2 } }
    run: 'echo {params.count} {params.color} $KILN_PARAM_extra'
  b: { run: 'echo {params.unused}' }
";
    let mut options = options();
    options.set = values.iter().map(|s| (*s).to_owned()).collect();
    let graph = load_with(text, &options, &mut Fake::default()).map_err(|all| short(&all))?;
    Ok(graph.pipeline().stage("a").unwrap().clone())
}

#[test]
fn what_is_set_for_a_command_arrives_as_it_was_typed() {
    for value in ["5", "5.0", "05", "#ff8800", "a #b", "[1, 2", "", " x ", "null", "a=b", "'q'"] {
        for name in ["color", "count", "extra"] {
            let stage = set(&[&format!("stages.a.{name}={value}")]).unwrap();
            assert_eq!(param(&stage, name), value, "{name}");
        }
        assert_eq!(param(&set(&[&format!("params.color={value}")]).unwrap(), "color"), value);
    }
    // What is JSON is what it would be in a file.
    for (value, text) in [("[1,  2.50]", "[1,2.50]"), ("\"q\"", "q")] {
        assert_eq!(param(&set(&[&format!("stages.a.color={value}")]).unwrap(), "color"), text);
    }
    let stage = set(&["stages.a.model={\"width\": 3.10}", "stages.a.params.model.width=4.20"]).unwrap();
    assert_eq!(param(&stage, "model"), r#"{"width":4.20}"#);
    let stage = set(&["stages.a.fresh=1.0", "stages.a.run=echo {params.fresh} {params.color}"]).unwrap();
    assert_eq!(param(&stage, "fresh"), "1.0");
}

#[test]
fn an_unknown_name_in_a_path_into_a_command_is_an_error() {
    let values = [
        "stages.a.cuont=5",
        "stages.a.extr=5",
        "stages.a.params.unused=5",
        "stages.a.model.widht=5",
        "stages.a.inputs.x=b",
        "stages.a.timout=5s",
        "sources.x=y",
        "params.colour=blue",
    ];
    insta::assert_snapshot!(set(&values).unwrap_err(), @r#"
        override 0:0 `--set stages.a.cuont`: the command `a` has no `cuont` in its params (did you mean `count`?)
        override 0:0 `--set stages.a.extr`: the command `a` has no `extr` in its params (its params: count, model)
        override 0:0 `--set stages.a.params.unused`: `run` of stage `a` does not use `unused` (its params: count, model)
        override 0:0 `--set stages.a.model.widht`: there is no `widht` in this parameter (did you mean `width`?)
        override 0:0 `--set stages.a.inputs.x`: the command `a` has no `x` in its inputs (its inputs: nothing)
        override 0:0 `--set stages.a.timout`: the command `a` has no `timout` in its params (did you mean `timeout`?)
        override 0:0 `--set sources.x`: there is no source `x` (there is: nothing)
        unused-param 0:0 no stage takes the pipeline's parameter `colour` (did you mean `color`?)
    "#);
}

proptest::proptest! {
    #[test]
    fn whatever_begins_with_a_digit_reaches_a_command_as_it_is_written(text in "[0-9][0-9.eExo_+-]{0,24}") {
        let stage = stage(&format!("stages:\n  a:\n    run: x\n    params:\n      p: {text}\n      l: [{text}]\n"));
        proptest::prop_assert_eq!(param(&stage, "p"), &text[..]);
        let list = param(&stage, "l");
        proptest::prop_assert!(list == format!("[{text}]") || list == format!("[\"{text}\"]"), "{}", list);
        serde_json::from_str::<serde::de::IgnoredAny>(&list).unwrap();
    }
}
