//! What the errors of whole pipeline files look like.
//!
//! Purpose: every error of a file in one pass, each with its place.
//! Invariant: every error is checked with its place.
//! Must not know: how `spec` is divided.

use crate::spec::Code;
use crate::spec::testing::{Fake, errors, load, load_with, options, short, short_errors};

#[test]
fn five_different_errors_give_five_messages_in_one_pass() {
    let text = "\
sources:
  plays: { path: plays.txt, type: corpus }
stages:
  tok: { kind: tokenizer, inputs: { corpus: plays } }
  base:
    kind: pretrain
    inputs: { tokenizer: tok, corpus: plays }
    params:
      learning_rat: 1e-5
      steps: 10
      steps: 20
  one: { kind: sft, inputs: { base: bse }, params: { epochs: 1 } }
  two: { kind: sft, inputs: { base: tok }, params: { epochs: 1 } }
  a: { kind: sft, inputs: { base: b }, params: { epochs: 1 } }
  b: { kind: sft, inputs: { base: a }, params: { epochs: 1 } }
";
    insta::assert_snapshot!(errors(text), @r"
        error[unknown-key]: stage `base` (kind pretrain) has no parameter `learning_rat`
           p.yaml:9:7
        9 |       learning_rat: 1e-5
          |       ^^^^^^^^^^^^ did you mean `learning_rate`?
        error[duplicate-key]: the key `steps` stands here twice
           p.yaml:11:7
        11 |       steps: 20
           |       ^^^^^ the first one is at line 10
        error[unknown-ref]: `one.inputs.base` names `bse`; there is: tok, base, one, two, a, b, plays
           p.yaml:12:37
        12 |   one: { kind: sft, inputs: { base: bse }, params: { epochs: 1 } }
           |                                     ^^^ did you mean `base`?
        error[wrong-type]: `two.inputs.base` takes checkpoint, but `tok` makes tokenizer
           p.yaml:13:37
        13 |   two: { kind: sft, inputs: { base: tok }, params: { epochs: 1 } }
           |                                     ^^^
        error[cycle]: the stages form a cycle: a -> b -> a
           p.yaml:14:35
        14 |   a: { kind: sft, inputs: { base: b }, params: { epochs: 1 } }
           |                                   ^
        5 errors. Nothing was run.
    ");
}

#[test]
fn every_wrong_parameter_is_reported_with_its_place() {
    let text = "\
params: { seed: x, epochz: 3 }
sources: { plays: { path: plays.txt, type: corpus } }
stages:
  tok: { kind: tokenizer, inputs: { corpus: plays }, params: { vocab_size: 3 } }
  base:
    kind: pretrain
    inputs: { tokenizer: tok, corpus: plays }
    params:
      model: { preset: tinny, layer: 2, dropout: 1.5 }
      learning_rate: 0
      steps: 1.5
      schedule: { steps: { evry: 3 } }
      warmup: -1
      betas: [0.9]
      tags: [a, 1]
      init: { preset: small, layers: many }
  sft: { kind: sft, inputs: { base: base } }
  again: { kind: sft, inputs: { base: base }, params: { epochs: '2' } }
";
    insta::assert_snapshot!(short_errors(text), @r"
        type 1:17 parameter `seed` of stage `base` (kind pretrain) must be a whole number, not a string `x`
        unused-param 1:20 no stage takes the pipeline's parameter `epochz` (did you mean `epochs`?)
        range 4:76 parameter `vocab_size` of stage `tok` (kind tokenizer) must be at least 256, not `3`
        choice 9:24 parameter `model.preset` of stage `base` (kind pretrain) must be one of tiny, small, not `tinny` (did you mean `tiny`?)
        unknown-key 9:31 parameter `model` of stage `base` (kind pretrain) has no `layer` (did you mean `layers`?)
        range 9:50 parameter `model.dropout` of stage `base` (kind pretrain) must be at most 0.9, not `1.5`
        range 10:22 parameter `learning_rate` of stage `base` (kind pretrain) must be above 0, not `0`
        type 11:14 parameter `steps` of stage `base` (kind pretrain) must be a whole number, not `1.5`
        unknown-key 12:28 parameter `schedule.steps` of stage `base` (kind pretrain) has no `evry` (did you mean `every`?)
        range 13:15 parameter `warmup` of stage `base` (kind pretrain) must be at least 0, not `-1`
        range 14:14 parameter `betas` of stage `base` (kind pretrain) must have at least 2 items, not 1
        type 15:17 parameter `tags[1]` of stage `base` (kind pretrain) must be a string, not a number `1`
        type 16:38 parameter `init.layers` of stage `base` (kind pretrain) must be a whole number, not a string `many`
        missing-param 17:3 stage `sft` (kind sft) needs the parameter `epochs`, which has no default
        type 18:65 parameter `epochs` of stage `again` (kind sft) must be a whole number, not a string `2`
    ");
}

#[test]
fn a_url_that_cannot_be_read_is_an_error_without_its_secrets() {
    let digest = "0".repeat(64);
    let text = format!(
        "\
sources:
  a: {{ url: https://host/x }}
  b: {{ url: host/x, sha256: {digest} }}
  c: {{ url: ftp://host/x?key=hidden, sha256: {digest} }}
  d: {{ url: https://me:hidden@host/x, sha256: {digest} }}
  e: {{ url: 'https://host/x#y', sha256: {digest} }}
  f: {{ url: 's3://bucket/x?key=hidden', sha256: {digest} }}
  g: {{ url: https://host/x, path: y, sha256: {digest} }}
  h: {{ path: y, sha256: {digest} }}
  i: {{ url: https://host, sha256: {{}} }}
  j: {{ url: https://host, sha256: {{ ../x: {digest}, /y: {digest}, a: {digest}, a/b: {digest}, c: d }} }}
  k: {{ url: [], sha256: [] }}
  l: {{ ulr: x }}
  m: {{ sha256: {digest} }}
  good: {{ url: 'https://host/x?version=2', sha256: 'sha256:{digest}' }}
stages:
  a: {{ run: 'true' }}
  z: {{ run: 'cat {{inputs.x}}', inputs: {{ x: good, y: b }} }}
"
    );
    let errors = short_errors(&text);
    assert!(!errors.contains("hidden"), "{errors}");
    insta::assert_snapshot!(errors, @"
        missing-key 2:8 source `a` has a `url` but no `sha256` (add `sha256: ..` with what `curl -L https://host/x | sha256sum` prints; for a folder of files, `sha256: { FILE: .. }`)
        unsupported-source 3:13 `url` of source `b`, `host/x`, is no URL (it looks like https://host/path; a local file goes under `path`)
        unsupported-source 4:13 `url` of source `c`, `ftp://host/x`, has a scheme that cannot be read (there is: https://, http://, s3://, gs://, az://)
        unsupported-source 5:13 `url` of source `d`, `https://***@host/x`, holds credentials (credentials for s3://, gs:// and az:// belong in the environment; a file that needs a password: download it, and name its `path`)
        unsupported-source 6:13 `url` of source `e`, `https://host/x`, holds a `#`, which names no place (write it as %23 if it is part of the path)
        unsupported-source 7:13 `url` of source `f`, `s3://bucket/x`, cannot be read (`s3://bucket/x` is not the URL of a remote: it holds credentials or a query; credentials belong in the environment)
        unknown-key 8:29 source `g` has both a `path` and a `url`; name one of them
        unknown-key 9:17 source `h` has a `sha256`, which only a source with a `url` has (the digest of a local file is found when the pipeline is planned)
        type 10:35 `sha256` of source `i` names no files
        bad-path 11:35 `sha256` of source `j` names `a` as a file and as a folder
        outside-root 11:37 a file under `sha256` of source `j` `../x` leads out of the project root (name a path below it, without a `/` at the start)
        outside-root 11:109 a file under `sha256` of source `j` `/y` leads out of the project root (name a path below it, without a `/` at the start)
        type 11:322 `sha256` of `c` of source `j` must be 64 hexadecimal digits, not `d` (`sha256sum FILE` prints them)
        type 12:13 `url` of source `k` must be a string, not a list
        type 12:25 `sha256` of source `k` must be 64 hexadecimal digits, not a list (`sha256sum FILE` prints them)
        unknown-key 13:8 source `l` has no key `ulr` (did you mean `url`?)
        missing-key 14:6 source `m` has no `path` and no `url`
        unknown-key 14:8 source `m` has a `sha256`, which only a source with a `url` has (the digest of a local file is found when the pipeline is planned)
        duplicate-name 17:3 stage `a` has the name of a source (the source is at line 2)
    ");
}

#[test]
fn keys_that_do_not_exist_are_errors_with_the_nearest_one() {
    let text = "\
pipelin: x
matrix: {}
sources:
  plays: { pth: x, type: corpsu }
  far: { path: ../../x }
  net: s3://bucket/x
  url: { url: 'https://x', sha256: y }
stages:
  9!: { run: 'true' }
  plays: { run: 'true' }
  a: { kind: tokeniser, inputs: { corpus: plays } }
  b: { kind: tokenizer, input: {}, run: x, cache: exat, retries: many, timeout: soon }
  c: { inputs: { x: plays }, params: { n: 1 } }
  d: { run: 'cat {inputs.y} {params.m} {input.x}', inputs: { x: plays } }
  e: { run: 'cat {inputs.y} {params.m}', inputs: { x: plays }, params: { n: 1 }, outputs: { o: tabel } }
  f: { kind: command, uses: [../x], resources: { cpu: 2, memory: big }, env: { A: [] } }
  g: nonsense
  h: { run: ls, inputs: { x: [plays] } }
  i: { run: [], inputs: 3 }
";
    insta::assert_snapshot!(short_errors(text), @r"
        unknown-key 1:1 a pipeline file has no key `pipelin` (did you mean `pipeline`?)
        unknown-key 2:1 a pipeline file has no key `matrix` (there is: pipeline, params, sources, stages, providers, ignore, remotes, signatures, executors, executor)
        unknown-key 4:12 source `plays` has no key `pth` (did you mean `path`?)
        unknown-type 4:26 source `plays` has the type `corpsu`, which does not exist (did you mean `corpus`?)
        outside-root 5:16 source `far` `../../x` climbs out of the project root /project (name it by its absolute path, or move it inside)
        unsupported-source 6:8 source `net` is a URL; a path is of this machine (write `{ url: s3://bucket/x, sha256: .. }`)
        type 7:36 `sha256` of source `url` must be 64 hexadecimal digits, not `y` (`sha256sum FILE` prints them)
        bad-name 9:3 `9!` cannot be the name of a stage (a name has at most 100 letters, digits, `_` and `-`, and starts with no `-`)
        duplicate-name 10:3 stage `plays` has the name of a source (the source is at line 4)
        unknown-kind 11:14 stage `a` has the kind `tokeniser`, which does not exist (did you mean `tokenizer`?)
        unknown-key 12:25 stage `b` (kind tokenizer) has no key `input` (did you mean `inputs`?)
        unknown-key 12:36 stage `b` (kind tokenizer) has `run`, which only commands have
        choice 12:51 `cache` of stage `b` (kind tokenizer) must be `exact` or `normal` (did you mean `exact`?)
        type 12:66 `retries` of stage `b` (kind tokenizer) must be a whole number up to 1000, not `many`
        type 12:81 `timeout` of stage `b` (kind tokenizer) must be a duration such as `90s`, `10m`, `1h30m` or `2d`, not `soon`
        missing-key 13:3 stage `c` has no `kind` and no `run` (there is: command, pretrain, sft, tokenizer)
        placeholder 14:13 `run` of stage `d` (kind command): `{input.x}` is no placeholder; did you mean `{inputs.x}`? (write `{{input.x}}` for the plain text)
        placeholder 15:13 `run` of stage `e` (kind command) names `{inputs.y}`; its inputs: x
        placeholder 15:13 `run` of stage `e` (kind command) names `{params.m}`; its params: n
        unknown-type 15:96 output `o` of stage `e` (kind command) has the type `tabel`, which does not exist (did you mean `table`?)
        missing-key 16:3 stage `f` (kind command) has no `run`
        outside-root 16:30 `uses` of stage `f` (kind command) `../x` leads out of the project root (name a path below it, without a `/` at the start)
        unknown-key 16:50 `resources` of stage `f` (kind command) has no key `cpu` (did you mean `cpus`?)
        type 16:66 `memory` in `resources` of stage `f` (kind command) must be a size such as `4GiB`
        type 16:83 `env.A` of stage `f` (kind command) must be a string (or `{ pass: NAME }` or `{ secret: NAME }`, with the name of a variable of the caller)
        type 17:6 stage `g` must be a mapping, not a string
        type 18:30 input `x` of stage `h` (kind command) must be a string, not a list
        type 19:13 `run` of stage `i` (kind command) must be a command line or a list of words
        type 19:25 `inputs` of stage `i` (kind command) must be a mapping, not a number
    ");
}

#[test]
fn what_could_not_be_understood_makes_no_second_errors() {
    let text = "\
params: { seed: 3 }
sources: [plays]
stages:
  odd: { kind: nonsense, inputs: { x: plays } }
  a: { kind: sft, inputs: { base: odd.checkpoint }, params: { epochs: 1 } }
  b: { run: 'cat {inputs.x} {params.y}', inputs: { x: odd }, params: [] }
";
    insta::assert_snapshot!(short_errors(text), @r"
        type 2:10 `sources` must be a mapping, not a list
        unknown-kind 4:16 stage `odd` has the kind `nonsense`, which does not exist (there is: command, pretrain, sft, tokenizer)
        type 6:70 `params` of stage `b` (kind command) must be a mapping, not a list
    ");
}

#[test]
fn a_misspelt_key_is_not_missing_as_well() {
    let text = "\
sources: { plays: { paht: x } }
stages:
  a: { kind: tokenizer, input: { corpus: plays } }
  b: { kind: tokenizer, inputs: { corpsu: plays } }
  c: { rum: ls }
  d: { kind: command, rn: ls }
  e: { kind: sft, inputs: { base: x }, params: { epoch: 3 } }
  f: { kind: pretrain, inputs: { corpus: plays, tokenizer: b }, params: { dropout: 0.5 } }
";
    insta::assert_snapshot!(short_errors(text), @r"
        unknown-key 1:21 source `plays` has no key `paht` (did you mean `path`?)
        unknown-key 3:25 stage `a` (kind tokenizer) has no key `input` (did you mean `inputs`?)
        unknown-key 4:35 stage `b` (kind tokenizer) has no input `corpsu` (did you mean `corpus`?)
        unknown-key 5:8 stage `c` has no key `rum` (did you mean `run`?)
        unknown-key 6:23 stage `d` (kind command) has no key `rn` (did you mean `run`?)
        unknown-ref 7:35 `e.inputs.base` names `x`; there is: a, b, c, d, e, f, plays
        unknown-key 7:50 stage `e` (kind sft) has no parameter `epoch` (did you mean `epochs`?)
        unknown-key 8:75 stage `f` (kind pretrain) has no parameter `dropout` (did you mean `model.dropout`?)
    ");
    assert_eq!(
        short_errors("source: { x: y }\nstages: { a: { run: ls, inputs: { x: x } } }"),
        "unknown-key 1:1 a pipeline file has no key `source` (did you mean `sources`?)"
    );
}

#[test]
fn what_is_no_pipeline_is_one_error() {
    for (text, expected) in [
        ("", "missing-key 1:1 a pipeline file needs `stages`"),
        ("- a\n", "type 1:1 a pipeline file must be a mapping, not a list"),
        ("stages: 3", "type 1:9 `stages` must be a mapping, not a number"),
        ("stages: { a: [1, 2 }", "syntax 1:14 mismatched bracket"),
    ] {
        let found = short_errors(text);
        assert!(found.starts_with(expected) && !found.contains('\n'), "{text}: {found}");
    }
    let missing = crate::graph::load("none.yaml".as_ref(), &options(), &mut Fake::default()).unwrap_err();
    assert_eq!((missing.len(), missing[0].code), (1, Code::Io));
}

#[test]
fn errors_as_json_have_their_place_and_hint() {
    let all = load("stages: { a: { rum: x, kind: command } }").unwrap_err();
    let json = crate::spec::diagnostic::to_json(&all);
    insta::assert_json_snapshot!(json, @r#"
        {
          "errors": [
            {
              "code": "unknown-key",
              "column": 16,
              "file": "p.yaml",
              "hint": "did you mean `run`?",
              "line": 1,
              "message": "stage `a` (kind command) has no key `rum`"
            }
          ],
          "schema": "kiln.errors/1"
        }
    "#);
}

#[test]
fn hostile_texts_cannot_steer_the_terminal() {
    let rendered = errors("stages: { \"a\\e[31m\\u202e\": { run: x }, b: { run: y, kimd: 2 } } # \u{202e}");
    assert!(!rendered.contains(['\u{1b}', '\u{202e}']), "{rendered}");
    let long = format!("stages: {{ a: {{ {}: 1 }} }}", "x".repeat(100_000));
    assert!(errors(&long).lines().all(|line| line.chars().count() < 1200));
}

#[test]
fn a_source_that_contains_the_store_is_an_error() {
    let text = "sources: { all: { path: . }, data: data, deep: '**/*.txt' }\nstages: { a: { run: ls } }\n";
    let mut options = options();
    options.store = "/project/artifacts".into();
    let all = load_with(text, &options, &mut Fake::default()).unwrap_err();
    insta::assert_snapshot!(short(&all), @r"
        store-in-source 1:25 source `all` `.` contains the store /project/artifacts (name the files or folders beside it, or keep the store elsewhere with `--store`)
        store-in-source 1:48 source `deep` `**/*.txt` contains the store /project/artifacts (name the files or folders beside it, or keep the store elsewhere with `--store`)
    ");
}
