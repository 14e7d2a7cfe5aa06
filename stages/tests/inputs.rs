//! What cannot give a good result is refused, and what is left out or cut is said.

// Helpers of tests fail as tests do; clippy takes only the tests themselves for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::{Ending, Run, Stage, Workshop};
use kiln::protocol::Event;
use serde_json::{Value, json};

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::in_folder("inputs"))
}

/// The error of a stage that makes nothing.
#[track_caller]
fn refused(stage: &Stage) -> String {
    let place = stage.place();
    let run = place.run(Ending::Done, None);
    assert_eq!(run.code, Some(1), "{:?}", run.error());
    assert!(place.outputs().is_empty());
    let said = run.error().unwrap();
    assert!(!said.contains("internal error"), "{said}");
    said
}

#[track_caller]
fn good(stage: &Stage) -> Run {
    let run = stage.place().run(Ending::Done, None);
    assert_eq!(run.code, Some(0), "{:?}", run.error());
    run
}

/// A file of JSON lines beside the artifacts.
fn file(name: &str, rows: &[Value]) -> PathBuf {
    let path = workshop().artifact("corpus").with_file_name(name);
    std::fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    path
}

/// A copy of a model's folder in which the weight of the last norm has another value.
fn with_last_norm(model: &str, name: &str, value: f32) -> PathBuf {
    let (from, to) = (workshop().artifact(model), workshop().artifact(model).with_file_name(name));
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let path = to.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let is_last = |name: &str| ["transformer.ln_f.weight", "model.norm.weight"].contains(&name);
    let (_, norm) = header.iter().find(|(name, _)| is_last(name)).unwrap();
    let [from, to] = [0, 1].map(|i| start + norm["data_offsets"][i].as_u64().unwrap() as usize);
    bytes[from..to].chunks_exact_mut(4).for_each(|weight| weight.copy_from_slice(&value.to_le_bytes()));
    std::fs::write(&path, bytes).unwrap();
    path.parent().unwrap().to_owned()
}

#[test]
fn weights_that_are_not_finite_are_neither_published_nor_read() {
    let shop = workshop();
    for stage in [shop.pretrain().with("steps", json!(1)), shop.sft().with("steps", json!(1)), shop.reward()]
    {
        let said = refused(&stage.with("learning_rate", json!(1e38)).with("schedule", json!({"warmup": 0})));
        assert!(said.contains("finite") || said.contains("smaller learning rate"), "{said}");
    }
    let damaged = with_last_norm("sft", "damaged", f32::NAN);
    for stage in [shop.sft(), shop.sample(8), shop.reward()] {
        let said = refused(&stage.input("model", &damaged));
        assert!(said.contains("not finite"), "{said}");
    }
}

#[test]
fn logits_that_are_not_finite_are_an_error_and_no_reply() {
    let huge = with_last_norm("sft", "huge", 3e38);
    let said = refused(&workshop().sample(8).input("model", &huge));
    assert!(said.contains("logits") && said.contains("not finite"), "{said}");
}

#[test]
fn models_whose_scores_or_logits_are_not_finite_are_not_published() {
    let shop = workshop();
    // Weights that are finite, and so large that what they give is not.
    let one_step = json!({"warmup": 0});
    let reward = shop.reward().with("epochs", json!(1)).with("prompts_per_batch", json!(1000));
    let reward = reward.without("demonstrations").with("schedule", one_step.clone());
    for part in [0.0, 0.1] {
        let stage =
            reward.clone().with("learning_rate", json!(1e30)).with("validation_fraction", json!(part));
        let said = refused(&stage);
        assert!(said.contains("scores of the reward model are not finite"), "{part}: {said}");
    }
    let ppo = shop.ppo().with("iterations", json!(1)).with("epochs", json!(1)).with("minibatches", json!(1));
    let said = refused(&ppo.with("learning_rate", json!(1e17)).with("schedule", one_step));
    assert!(said.contains("not finite"), "{said}");
    let huge = with_last_norm("reward", "huge-reward", 3e38);
    for stage in [shop.ppo(), shop.eval()] {
        let said = refused(&stage.input("reward", &huge));
        assert!(said.contains("scores of the reward model are not finite"), "{said}");
    }
}

#[test]
fn numbers_at_their_limits_do_not_wrap() {
    let shop = workshop();
    let reward = shop.reward().with("epochs", json!(1_u64 << 63)).with("prompts_per_batch", json!(20));
    let place = reward.place();
    assert_eq!(place.run(Ending::Stopped, Some("0")).code, Some(130), "it trains until it is stopped");
    let warmup = json!({"warmup": u64::MAX});
    let run = good(&shop.sft().with("steps", json!(2)).with("schedule", warmup));
    let told = |e: &Event| matches!(e, Event::Health { message, .. } if message.contains("reaches 0 %"));
    assert!(run.events.iter().any(told), "{:?}", run.events);
}

#[test]
fn calibration_without_held_out_rankings_is_refused_before_training() {
    let stage = workshop().reward().with("calibrate", json!(true)).with("validation_fraction", json!(0));
    let run = stage.place().run(Ending::Done, None);
    assert!(run.error().unwrap().contains("raise `validation_fraction`"));
    assert!(!run.events.iter().any(|e| matches!(e, Event::Progress { .. })));
}

#[test]
fn a_conversation_with_a_model_without_room_is_an_error() {
    let shop = workshop();
    for context in [2, 3] {
        let model = json!({"preset": "nano", "layers": 1, "hidden_size": 32, "heads": 2, "max_position_embeddings": context});
        let stage = shop.pretrain().with("model", model).with("steps", json!(1)).with("eval_every", json!(0));
        let model = shop.made(&format!("context-{context}"), &stage);
        let (code, events) = converse(&model, 0.8, "the sun", false);
        assert_eq!(code, Some(1));
        assert!(
            matches!(&events[..], [Event::Error { message }] if message.contains("no room")),
            "{events:?}"
        );
    }
}

/// Two worlds in which the same bytes have other tokens.
fn other_tokenizer(name: &str) -> Stage {
    let shop = workshop();
    let corpus = shop.artifact("corpus").with_file_name(format!("{name}-corpus"));
    let text = std::fs::read_to_string(shop.artifact("corpus")).unwrap();
    std::fs::write(&corpus, text.replace("quiet", "noisy").replace("hill", "dale").replace("birds", "crows"))
        .unwrap();
    shop.tokenizer(1).input("corpus", &corpus)
}

#[test]
fn a_reward_model_of_another_tokenizer_or_a_shorter_context_is_refused() {
    let shop = workshop();
    let tokenizer = shop.made("other-tokenizer", &other_tokenizer("other"));
    let other = |name: &str, tokenizer: &Path, context: usize| {
        let model = json!({"preset": "nano", "layers": 1, "hidden_size": 32, "heads": 2, "max_position_embeddings": context});
        let base = shop.pretrain().with("model", model).with("steps", json!(2)).input("tokenizer", tokenizer);
        let base = shop.made(&format!("{name}-base"), &base);
        shop.made(&format!("{name}-reward"), &shop.reward().with("epochs", json!(1)).input("model", &base))
    };
    let cases = [
        (other("other", &tokenizer, 32), "another tokenizer"),
        (other("short", &shop.artifact("tokenizer"), 24), "context of 24 tokens"),
    ];
    for (reward, word) in &cases {
        for stage in [shop.ppo(), shop.eval()] {
            let said = refused(&stage.input("reward", reward));
            assert!(said.contains(word), "{said}");
        }
    }
}

#[test]
fn prompts_that_do_not_fit_are_told_and_none_left_is_an_error() {
    let shop = workshop();
    let long = "the sun rose over a quiet hill ".repeat(20);
    let mut rows: Vec<Value> = (0..12).map(|i| json!({"prompt": format!("the sun {i}")})).collect();
    rows.push(json!({"prompt": long}));
    let prompts = file("long-prompts", &rows);
    for stage in [shop.sample(8), shop.ppo().with("iterations", json!(1))] {
        let run = good(&stage.input("prompts", &prompts));
        assert!(run.logged("1 of 13 prompts are longer than"), "{:?}", run.events);
    }
    let run = good(&shop.eval().input("prompts", &prompts));
    assert!(run.logged("1 of 13 prompts are longer than 22 tokens: the beginning of each is cut off"));
    let only = file("only-long", &[json!({"prompt": long})]);
    for stage in [shop.sample(8), shop.ppo()] {
        assert!(refused(&stage.input("prompts", &only)).contains("all 1 prompts are longer than"));
    }
    for stage in [shop.sample(8), shop.ppo(), shop.eval()] {
        assert!(refused(&stage.with("max_new_tokens", json!(30))).contains("leaves no room for a prompt"));
    }
}

#[test]
fn equal_completions_and_those_that_are_equal_in_the_context_teach_nothing() {
    let shop = workshop();
    let long = "the sun rose over a quiet hill ".repeat(20);
    let ranking = |a: &str, b: &str| json!({"prompt": "the sun", "completions": [a, b], "ranks": [1, 2]});
    let mut rows = vec![ranking("rose", "rose"), ranking(&long, &format!("{long} and trees"))];
    let equal = file("equal", &rows);
    let reward = shop.reward().with("epochs", json!(1));
    assert!(refused(&reward.clone().input("rankings", &equal)).contains("two different completions"));
    rows.extend((0..4).map(|i| ranking("rose", &format!("sang {i}"))));
    let run = good(&reward.input("rankings", &file("some-equal", &rows)));
    assert!(run.logged("2 pairs left out"), "{:?}", run.events);
}

#[test]
fn what_is_held_out_is_never_nothing_unless_that_is_asked_for() {
    let shop = workshop();
    let one = file("one-demonstration", &[json!({"prompt": "the sun", "response": "rose"})]);
    let sft = shop.sft().with("steps", json!(2)).input("demonstrations", &one);
    assert!(refused(&sft).contains("too few to hold one out"));
    let run = good(&sft.with("validation_fraction", json!(0)));
    assert!(run.summary().is_empty(), "nothing is reported: {:?}", run.summary());
    let run = good(&shop.reward().with("epochs", json!(1)).with("validation_fraction", json!(0)));
    assert!(run.summary().is_empty(), "the training rows are not reported: {:?}", run.summary());
}

#[test]
fn a_warm_up_that_is_longer_than_the_run_is_told() {
    let shop = workshop();
    let long = json!({"warmup": 50});
    let stages = [
        shop.pretrain().with("steps", json!(4)),
        shop.sft().with("steps", json!(4)),
        shop.reward().with("epochs", json!(1)),
        shop.ppo().with("iterations", json!(1)),
    ];
    for stage in stages {
        let run = good(&stage.clone().with("schedule", long.clone()));
        let warned = |e: &Event| matches!(e, Event::Health { code, .. } if code == "warmup-long");
        assert!(run.events.iter().any(warned), "{}", stage.kind);
        assert!(!good(&stage.with("schedule", json!({"warmup": 0}))).events.iter().any(warned));
    }
}

#[test]
fn a_text_of_exactly_one_row_is_enough() {
    let shop = workshop();
    let tokenizer = kiln_formats::bpe::Tokenizer::load(&shop.artifact("tokenizer")).unwrap();
    let text = std::fs::read_to_string(shop.artifact("corpus")).unwrap();
    // 32 inputs and the last target, which is the mark of the end.
    let ids = tokenizer.encode(&text);
    let corpus = shop.artifact("corpus").with_file_name("one-row");
    for (tokens, is_enough) in [(32, true), (31, false)] {
        std::fs::write(&corpus, tokenizer.decode(&ids[..tokens])).unwrap();
        let stage = shop.pretrain().with("steps", json!(2)).with("validation_fraction", json!(0));
        let run = stage.input("corpus", &corpus).place().run(Ending::Done, None);
        assert_eq!(run.code == Some(0), is_enough, "{tokens} tokens: {:?}", run.error());
    }
}

/// Replies of `converse` to prompts, with what else it said.
fn converse(model: &Path, temperature: f64, prompt: &str, raw: bool) -> (Option<i32>, Vec<Event>) {
    let request = json!({
        "model": model, "temperature": temperature, "max_tokens": 8, "seed": 1, "threads": 1, "device": "cpu",
        "raw": raw,
    });
    let mut worker = Command::new(env!("CARGO_BIN_EXE_kiln-stages"))
        .arg("converse")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("{request}\n{}\n", json!({"prompt": prompt}));
    worker.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = worker.wait_with_output().unwrap();
    let events = String::from_utf8(out.stdout).unwrap();
    (out.status.code(), events.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn a_conversation_refuses_a_temperature_below_0_and_says_when_a_prompt_is_cut() {
    let model = workshop().artifact("sft");
    let (code, events) = converse(&model, -1.0, "the sun", false);
    assert_eq!(code, Some(1));
    assert!(matches!(&events[..], [Event::Error { message }] if message.contains("temperature")));
    let long = "the sun rose over a quiet hill ".repeat(20);
    for raw in [false, true] {
        let cut = |prompt: &str| {
            let (code, events) = converse(&model, 0.8, prompt, raw);
            assert_eq!(code, Some(0));
            assert!(events.iter().any(|e| matches!(e, Event::Reply { .. })), "{events:?}");
            events.iter().any(|e| matches!(e, Event::Log { message, .. } if message.contains("cut off")))
        };
        assert!(cut(&long) && !cut("the sun"));
    }
}

#[test]
fn documents_keep_their_ends_with_and_without_a_validation_text() {
    let shop = workshop();
    let rows: Vec<Value> = (0..40).map(|i| json!({"text": format!("the sun rose {i}")})).collect();
    let corpus = shop.artifact("corpus").with_file_name("documents.jsonl");
    std::fs::write(&corpus, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let tokens = |stage: Stage| {
        let run = good(&stage.with("steps", json!(1)).input("corpus", &corpus));
        let said: Vec<String> = run
            .events
            .iter()
            .filter_map(|e| match e {
                Event::Log { message, .. } => message.split(", ").nth(1).map(str::to_owned),
                _ => None,
            })
            .collect();
        said.into_iter().find(|part| part.contains("tokens to train on")).unwrap()
    };
    let with = tokens(shop.pretrain().input("validation", &shop.artifact("corpus")));
    let without = tokens(shop.pretrain().with("validation_fraction", json!(0)));
    assert_eq!(with, without);
}

#[test]
fn a_model_or_a_batch_that_cannot_fit_into_memory_is_refused_with_what_takes_less() {
    let pretrain = |shop: &Workshop| Stage { memory: 32 << 20, ..shop.pretrain() };
    let shop = workshop();
    good(&pretrain(shop));
    let large = |micro: u64| {
        let stage = pretrain(shop).with("steps", json!(1)).with("batch_size", json!(1024));
        stage.with("micro_batch", json!(micro))
    };
    let said = refused(&large(0));
    assert!(
        said.contains("tokens that go through the model at once), and there are 34 MB: lower `micro_batch`"),
        "{said}"
    );
    good(&large(16));
    // More than there are rows is all of them.
    good(&pretrain(shop).with("steps", json!(1)).with("micro_batch", json!(1u64 << 60)));
    let said = refused(&pretrain(shop).with("model", json!({"preset": "gpt2-124m"})));
    assert!(said.ends_with("choose a smaller `model`"), "{said}");
}

#[test]
fn minibatches_that_do_not_divide_a_rollout_are_an_error_that_names_both() {
    let said = refused(&workshop().ppo().with("minibatches", json!(3)));
    assert!(said.contains("`minibatches: 3` does not divide `prompts_per_batch: 8`"), "{said}");
}

#[test]
fn pretraining_text_of_weight_0_is_not_looked_at() {
    let shop = workshop();
    let ppo = |shop: &Workshop| shop.ppo().with("iterations", json!(2)).with("ptx_coef", json!(0));
    let outputs = |stage: Stage| {
        let place = stage.place();
        assert_eq!(place.run(Ending::Done, None).code, Some(0));
        place.outputs()
    };
    let with = outputs(ppo(shop).input("pretraining", &shop.artifact("corpus")));
    assert!(with == outputs(ppo(shop)));
}

#[test]
fn an_array_in_place_of_an_object_is_an_error_that_says_so() {
    let shop = workshop();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, "\u{feff}[\"the sun\", \"rose\"]\n").unwrap();
    let said = refused(&shop.sft().input("demonstrations", &path));
    assert!(said.contains("rows.jsonl:1: "), "{said}");
    assert!(said.contains("array"), "{said}");
}
