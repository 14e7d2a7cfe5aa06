//! Tests of the graph.
//!
//! Purpose: references, types, order, cycles, targets, renderings.
//! Invariant: every error is checked with its place.
//! Must not know: how `graph` is divided.

use crate::graph::{Graph, Producer, render};
use crate::spec::testing::{errors, load, short, short_errors};

/// A diamond: plays -> a -> b, c -> d.
const DIAMOND: &str = "\
pipeline: diamond
sources: { plays: { path: plays.txt, type: corpus } }
stages:
  d: { run: 'cat {inputs.x} {inputs.y} > {outputs.o}', inputs: { x: b, y: c.more }, outputs: { o: report } }
  c: { run: 'x {inputs.x} {outputs.o}', inputs: { x: a }, outputs: { o: table, more: table } }
  b: { run: 'x {inputs.x} {outputs.o}', inputs: { x: a }, outputs: { o: table } }
  a: { run: 'x {inputs.x} {outputs.o}', inputs: { x: plays }, outputs: { o: corpus } }
  e: { run: 'echo', inputs: { x: plays } }
";

fn names(graph: &Graph, indices: &[usize]) -> Vec<String> {
    indices.iter().map(|i| graph.stage(*i).name.value.clone()).collect()
}

#[test]
fn stages_come_after_those_they_need_and_else_in_the_order_of_the_file() {
    let graph = load(DIAMOND).unwrap();
    assert_eq!(names(&graph, graph.order()), ["a", "c", "b", "d", "e"]);
    let d = graph.index("d").unwrap();
    assert_eq!(names(&graph, &graph.dependencies(d)), ["c", "b"]);
    assert_eq!(names(&graph, &graph.dependents(graph.index("a").unwrap())), ["c", "b"]);
    let inputs = graph.inputs(d);
    let Producer::Stage { index, output } = &inputs[1].from else { panic!("a stage") };
    assert_eq!((inputs[1].name, *index, output.name.as_str()), ("y", graph.index("c").unwrap(), "more"));
    assert_eq!(graph.inputs(graph.index("a").unwrap())[0].from, Producer::Source("plays"));
}

#[test]
fn targets_are_the_named_stages_and_all_that_they_need() {
    let graph = load(DIAMOND).unwrap();
    let targets = |list: &[&str]| {
        let list: Vec<_> = list.iter().map(|s| (*s).to_owned()).collect();
        graph.targets(&list).map(|t| names(&graph, &t).join(" ")).map_err(|all| short(&all))
    };
    assert_eq!(targets(&[]), Ok("a c b d e".into()));
    assert_eq!(targets(&["b"]), Ok("a b".into()));
    assert_eq!(targets(&["e", "c"]), Ok("a c e".into()));
    assert_eq!(
        targets(&["plays", "b"]),
        Err("unknown-target 0:0 there is no stage `plays`; there is: d, c, b, a, e".into())
    );
}

#[test]
fn an_unknown_name_or_output_is_an_error_that_says_what_there_is() {
    let text = DIAMOND
        .replace("x: b,", "x: bb,")
        .replace("c.more", "c.moer")
        .replace("x: plays }, out", "x: e }, out");
    insta::assert_snapshot!(short_errors(&text), @r"
        unknown-ref 4:69 `d.inputs.x` names `bb`; there is: d, c, b, a, e, plays
        unknown-ref 4:76 `d.inputs.y` names the output `moer` of `c`, which has: o, more (did you mean `more`?)
        unknown-ref 7:54 `a.inputs.x` names `e`, which has no outputs
    ");
}

#[test]
fn artifact_types_must_fit_and_any_fits_all() {
    let text = "\
sources:
  plays: { path: plays.txt, type: corpus }
  what: x
  sheet: { path: t, type: table }
stages:
  tok: { kind: tokenizer, inputs: { corpus: sheet } }
  fine: { kind: tokenizer, inputs: { corpus: what } }
  base: { kind: pretrain, inputs: { corpus: plays, tokenizer: base2.report } }
  base2: { kind: pretrain, inputs: { corpus: plays, tokenizer: fine } }
  sft: { kind: sft, inputs: { base: base2, data: tok }, params: { epochs: 1 } }
  also: { kind: sft, inputs: { base: base2, data: sheet }, params: { epochs: 1 } }
";
    insta::assert_snapshot!(short_errors(text), @r"
        wrong-type 6:45 `tok.inputs.corpus` takes corpus, but the source `sheet` is table
        wrong-type 8:63 `base.inputs.tokenizer` takes tokenizer, but `base2` makes report
        wrong-type 10:50 `sft.inputs.data` takes demonstrations or table, but `tok` makes tokenizer
    ");
}

#[test]
fn a_cycle_is_shown_as_a_path_once_for_each_scc() {
    let text = "\
stages:
  start: { run: x, outputs: { o: any } }
  a: { run: x, inputs: { s: start, x: c }, outputs: { o: any } }
  b: { run: x, inputs: { x: a }, outputs: { o: any } }
  c: { run: x, inputs: { x: b, y: b }, outputs: { o: any } }
  after: { run: x, inputs: { x: c } }
  own: { run: x, inputs: { x: own }, outputs: { o: any } }
";
    insta::assert_snapshot!(errors(text), @r"
        error[cycle]: the stages form a cycle: a -> b -> c -> a
           p.yaml:3:39
        3 |   a: { run: x, inputs: { s: start, x: c }, outputs: { o: any } }
          |                                       ^
        error[cycle]: stage `own` reads its own output: own -> own
           p.yaml:7:31
        7 |   own: { run: x, inputs: { x: own }, outputs: { o: any } }
          |                               ^^^
        2 errors. Nothing was run.
    ");
}

#[test]
fn a_chain_of_fifty_thousand_stages_is_nothing_special() {
    let mut text = String::from("stages:\n  s0: { run: x, outputs: { o: any } }\n");
    for i in 1..50_000 {
        text += &format!("  s{i}: {{ run: x, inputs: {{ x: s{} }}, outputs: {{ o: any }} }}\n", i - 1);
    }
    let graph = load(&text).unwrap();
    assert_eq!(graph.targets(&["s49999".to_owned()]).unwrap().len(), 50_000);
    let closed = text.replace("s0: { run: x,", "s0: { run: x, inputs: { x: s49999 },");
    let message = short_errors(&closed);
    assert!(message.starts_with("cycle 2:30 the stages form a cycle: s0 -> s1 -> s2"), "{message}");
    assert!(message.len() < 300);
}

#[test]
fn the_graph_is_drawn_as_text_dot_mermaid_and_json() {
    let graph = load(DIAMOND).unwrap();
    let stages = graph.targets(&["d".to_owned()]).unwrap();
    insta::assert_snapshot!(render::text(&graph, graph.order()), @r"
        a  command  <- plays
        c  command  <- a
        b  command  <- a
        d  command  <- b, c.more
        e  command  <- plays
    ");
    insta::assert_snapshot!(render::dot(&graph, &stages), @r#"
        digraph "diamond" {
          rankdir=LR;
          node [shape=box];
          "source:plays" [label="plays", shape=ellipse];
          "a" [label="a\ncommand"];
          "c" [label="c\ncommand"];
          "b" [label="b\ncommand"];
          "d" [label="d\ncommand"];
          "source:plays" -> "a" [label="x"];
          "a" -> "c" [label="x"];
          "a" -> "b" [label="x"];
          "b" -> "d" [label="x"];
          "c" -> "d" [label="y"];
        }
    "#);
    insta::assert_snapshot!(render::mermaid(&graph, &stages), @r#"
        flowchart LR
          source0(["plays"])
          stage3["a<br/>command"]
          stage1["c<br/>command"]
          stage2["b<br/>command"]
          stage0["d<br/>command"]
          source0 -->|x| stage3
          stage3 -->|x| stage1
          stage3 -->|x| stage2
          stage2 -->|x| stage0
          stage1 -->|y| stage0
    "#);
    insta::assert_json_snapshot!(render::json(&graph, &stages), @r#"
        {
          "pipeline": "diamond",
          "schema": "kiln.graph/1",
          "sources": [
            {
              "name": "plays",
              "path": "plays.txt",
              "type": "corpus"
            }
          ],
          "stages": [
            {
              "inputs": [
                {
                  "name": "x",
                  "source": "plays"
                }
              ],
              "kind": "command",
              "name": "a",
              "outputs": [
                {
                  "name": "o",
                  "type": "corpus"
                }
              ]
            },
            {
              "inputs": [
                {
                  "name": "x",
                  "output": "o",
                  "stage": "a"
                }
              ],
              "kind": "command",
              "name": "c",
              "outputs": [
                {
                  "name": "o",
                  "type": "table"
                },
                {
                  "name": "more",
                  "type": "table"
                }
              ]
            },
            {
              "inputs": [
                {
                  "name": "x",
                  "output": "o",
                  "stage": "a"
                }
              ],
              "kind": "command",
              "name": "b",
              "outputs": [
                {
                  "name": "o",
                  "type": "table"
                }
              ]
            },
            {
              "inputs": [
                {
                  "name": "x",
                  "output": "o",
                  "stage": "b"
                },
                {
                  "name": "y",
                  "output": "more",
                  "stage": "c"
                }
              ],
              "kind": "command",
              "name": "d",
              "outputs": [
                {
                  "name": "o",
                  "type": "report"
                }
              ]
            }
          ]
        }
    "#);
}
