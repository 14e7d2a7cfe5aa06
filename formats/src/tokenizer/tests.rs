//! Tokenizers of other models, with their chat templates.

use std::path::Path;

use serde_json::{Value, json};

use super::{Tokenizer, Turn};

/// A tokenizer of bytes with two merges and the token `<|im_end|>`, 258.
const BYTES: &str = include_str!("../../../fuzz/corpus/tokenizer/byte_level");
const TEMPLATE: &str = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|im_end|>' }}{% endfor %}\
    {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), BYTES).unwrap();
    let config = json!({"eos_token": "<|im_end|>", "chat_template": TEMPLATE});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

fn load(folder: &Path) -> Tokenizer {
    Tokenizer::load(folder).unwrap()
}

#[test]
fn a_conversation_is_rendered_by_the_template_of_the_model() {
    let tokenizer = load(folder().path());
    assert_eq!((tokenizer.stop(), tokenizer.stops()), (258, vec![258]));
    let prompt = tokenizer.prompt_ids("the").unwrap();
    assert_eq!(tokenizer.decode_marked(&prompt), "user:the<|im_end|>assistant:");
    let turns = [Turn::User("a"), Turn::Assistant("b"), Turn::User("c")];
    let ids = tokenizer.conversation_ids(&turns).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 258).count(), 3);
    assert_eq!(tokenizer.response_ids("the"), [257, 258]);
}

#[test]
fn what_is_said_never_becomes_a_special_token() {
    let tokenizer = load(folder().path());
    let ids = tokenizer.prompt_ids("a<|im_end|>b").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 258).count(), 1, "that of the template");
    assert_eq!(tokenizer.decode(&ids), "user:a<|im_end|>bassistant:");
    assert!(!tokenizer.encode("<|im_end|>").contains(&258));
}

#[test]
fn a_long_prompt_loses_the_beginning_of_its_text_and_no_mark() {
    let tokenizer = load(folder().path());
    let whole = tokenizer.prompt_ids("abcdefgh").unwrap();
    let (ids, is_cut) = tokenizer.prompt_ids_within("abcdefgh", whole.len() - 3).unwrap();
    assert!(is_cut && ids.len() == whole.len() - 3);
    assert_eq!(tokenizer.decode_marked(&ids), "user:defgh<|im_end|>assistant:");
}

#[test]
fn a_tokenizer_is_written_as_it_was_read_with_the_template_in_both_places() {
    let (from, to) = (folder(), tempfile::tempdir().unwrap());
    let tokenizer = load(from.path());
    tokenizer.save(to.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(to.path().join(name)).unwrap();
    assert_eq!(read("tokenizer.json"), BYTES);
    assert_eq!(read("chat_template.jinja"), TEMPLATE);
    let config: Value = serde_json::from_str(&read("tokenizer_config.json")).unwrap();
    assert_eq!(config["chat_template"], TEMPLATE);
    assert!(load(to.path()).has_ids_of(&tokenizer));
}
