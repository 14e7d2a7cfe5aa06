//! What is written as JSON is read back equal, whatever it says.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::super::{
    Chat, Completion, CompletionSet, Example, Fields, Json, Message, Options, Preference, Prompt, Ranked,
    Ranking, Role, Shape, Text, open,
};
use super::file;

fn said() -> impl Strategy<Value = String> {
    "\\PC{0,12}[a-z]\\PC{0,12}"
}

fn turn(role: Role) -> impl Strategy<Value = Message> {
    (said(), any::<bool>()).prop_map(move |(content, is_named)| {
        let mut more = Fields::default();
        if is_named {
            more.push("name", Json::String("Ann".into()));
        }
        Message { role, content, more }
    })
}

/// Turns that end with the user.
fn prompt() -> impl Strategy<Value = Vec<Message>> {
    (vec((turn(Role::User), turn(Role::Assistant)), 0..3), turn(Role::User), any::<bool>()).prop_map(
        |(pairs, last, has_system)| {
            let system = has_system.then(|| Message::new(Role::System, "be kind"));
            let pairs = pairs.into_iter().flat_map(|(user, assistant)| [user, assistant]);
            system.into_iter().chain(pairs).chain([last]).collect()
        },
    )
}

fn answers(least: usize) -> impl Strategy<Value = Vec<Completion>> {
    let answer = ("\\PC{0,12}", any::<bool>(), vec(any::<u32>(), 0..3));
    vec(answer.prop_map(|(text, finished, tokens)| Completion { text, finished, tokens }), least..5)
}

fn example() -> impl Strategy<Value = (Shape, Example)> {
    let chat = |messages, prompt_turns| Chat { messages, prompt_turns, tools: None };
    prop_oneof![
        said().prop_map(|text| (Shape::Text, Example::Text(Text { text, ends: true }))),
        (prompt(), turn(Role::Assistant)).prop_map(move |(mut turns, last)| {
            turns.push(last);
            (Shape::Messages, Example::Chat(chat(turns, 0)))
        }),
        (prompt(), turn(Role::Assistant)).prop_map(move |(mut turns, last)| {
            let prompt_turns = turns.len();
            turns.push(last);
            (Shape::PromptCompletion, Example::Chat(chat(turns, prompt_turns)))
        }),
        (prompt(), proptest::option::of(said()))
            .prop_map(|(prompt, response)| (Shape::Prompts, Example::Prompt(Prompt { prompt, response }))),
        (prompt(), turn(Role::Assistant), turn(Role::Assistant), proptest::option::of(-1e9..1e9)).prop_map(
            |(prompt, chosen, rejected, score)| {
                let (chosen, rejected) = (vec![chosen], vec![rejected]);
                let (chosen_score, rejected_score) = (score, score.map(|score| score / 3.0));
                let preference = Preference {
                    prompt,
                    chosen,
                    rejected,
                    chosen_score,
                    rejected_score,
                    tools: Some(Json::Array(vec![Json::Bool(true)])),
                };
                (Shape::Preference, Example::Preference(preference))
            }
        ),
        (prompt(), vec(("\\PC{0,12}", -1e300..1e300), 2..5)).prop_map(|(prompt, completions)| (
            Shape::UltraFeedback,
            Example::Ranked(Ranked { prompt, completions })
        )),
        (prompt(), answers(1)).prop_map(|(prompt, completions)| {
            (Shape::Completions, Example::Completions(CompletionSet { prompt, completions }))
        }),
        (prompt(), answers(2), said(), 0.0..1e6).prop_map(|(prompt, completions, annotator, seconds)| {
            let ranks = (1..=completions.len() as u32).rev().collect();
            let flags = vec!["unsure".to_owned()];
            (
                Shape::Rankings,
                Example::Ranking(Ranking { prompt, completions, ranks, annotator, seconds, flags }),
            )
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_reads_back_equal(examples in vec(example(), 1..6)) {
        for (shape, example) in examples {
            let line = serde_json::to_string(&example).unwrap();
            for (name, content) in [
                ("rows.jsonl", format!("{line}\n\n{line}\n")),
                ("rows.json", format!("[{line}, {line}]")),
                ("rows", format!("{line}\n{line}")),
            ] {
                let (_folder, path) = file(name, content);
                let options = Options { shape: Some(shape), ..Options::default() };
                let read: Vec<Example> = open(&path, &options).unwrap().map(|row| row.unwrap().1).collect();
                prop_assert_eq!(&read, &[example.clone(), example.clone()]);
            }
        }
    }

    #[test]
    fn csv_with_every_field_in_quotes_reads_back_equal(texts in vec("[\\PC\n\r\"]{0,20}x", 1..6), is_crlf: bool) {
        let end = if is_crlf { "\r\n" } else { "\n" };
        let mut csv = format!("\u{feff}\"id\",\"text\"{end}");
        for text in &texts {
            csv += &format!("\"1\",\"{}\"{end}", text.replace('"', "\"\""));
        }
        let read = super::read("rows.csv", csv);
        let expected: Vec<_> = texts.iter().map(|text| json!({"text": text})).collect();
        prop_assert_eq!(read, expected);
    }
}
