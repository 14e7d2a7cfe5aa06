//! Tokenizers of other models, with their chat templates.

use std::path::Path;

use serde_json::{Value, json};

use super::{Masked, Tokenizer};
use crate::records::{Chat, Message, Role};

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
    let prompt = tokenizer.prompt_ids(&[Message::user("the")]).unwrap();
    assert_eq!(tokenizer.decode_marked(&prompt), "user:the<|im_end|>assistant:");
    let turns = [Message::user("a"), Message::assistant("b"), Message::user("c")];
    let ids = tokenizer.prompt_ids(&turns).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 258).count(), 3);
    assert_eq!(tokenizer.response_ids("the"), [257, 258]);
}

#[test]
fn what_is_said_never_becomes_a_special_token() {
    let tokenizer = load(folder().path());
    let ids = tokenizer.prompt_ids(&[Message::user("a<|im_end|>b")]).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 258).count(), 1, "that of the template");
    assert_eq!(tokenizer.decode(&ids), "user:a<|im_end|>bassistant:");
    assert!(!tokenizer.encode("<|im_end|>").contains(&258));
}

#[test]
fn a_long_prompt_loses_the_beginning_of_its_text_and_no_mark() {
    let tokenizer = load(folder().path());
    let turns = [Message::user("abcdefgh")];
    let whole = tokenizer.prompt_ids(&turns).unwrap();
    let (ids, is_cut) = tokenizer.prompt_ids_within(&turns, whole.len() - 3).unwrap();
    assert!(is_cut && ids.len() == whole.len() - 3);
    assert_eq!(tokenizer.decode_marked(&ids), "user:defgh<|im_end|>assistant:");
}

#[test]
fn a_long_conversation_loses_its_oldest_turns_and_keeps_what_the_system_says() {
    let tokenizer = load(folder().path());
    let system = Message::new(Role::System, "s");
    let turns = [system, Message::user("abcd"), Message::assistant("efgh"), Message::user("ijkl")];
    let kept = "system:s<|im_end|>user:ijkl<|im_end|>assistant:";
    let short = tokenizer.prompt_ids(&[turns[0].clone(), turns[3].clone()]).unwrap();
    for room in [short.len(), tokenizer.prompt_ids(&turns).unwrap().len() - 1] {
        let (ids, is_cut) = tokenizer.prompt_ids_within(&turns, room).unwrap();
        assert!(is_cut);
        assert_eq!(tokenizer.decode_marked(&ids), kept);
    }
    let (ids, _) = tokenizer.prompt_ids_within(&turns, short.len() - 2).unwrap();
    assert_eq!(tokenizer.decode_marked(&ids), "system:s<|im_end|>user:kl<|im_end|>assistant:");
}

/// What is learnt, with `_` where something is not.
fn learnt(tokenizer: &Tokenizer, masked: &Masked) -> String {
    let mut text = String::new();
    for part in masked.ids.iter().zip(&masked.mask).collect::<Vec<_>>().chunk_by(|a, b| a.1 == b.1) {
        let ids: Vec<u32> = part.iter().map(|(id, _)| **id).collect();
        text += &if *part[0].1 { tokenizer.decode_marked(&ids) } else { "_".to_owned() };
    }
    text
}

fn chat(prompt_turns: usize, messages: &[Message]) -> Chat {
    Chat { messages: messages.to_vec(), prompt_turns, tools: None }
}

fn weightless(content: &str) -> Message {
    answer(&json!({"role": "assistant", "content": content, "weight": 0}))
}

/// A turn of the assistant, as a row has it.
fn answer(turn: &Value) -> Message {
    let row = json!({"messages": [{"role": "user", "content": "x"}, turn]}).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, row).unwrap();
    match crate::records::open(&path, &Default::default()).unwrap().next().unwrap().unwrap().1 {
        crate::records::Example::Chat(mut chat) => chat.messages.remove(1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_assistant_says_is_learnt_with_the_token_that_ends_it_and_nothing_else() {
    let folder = folder();
    let marked = TEMPLATE.replace(
        "{{ m['role'] + ':' + m['content'] + '<|im_end|>' }}",
        "{{ m['role'] + ':' }}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}\
         {% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}",
    );
    let mut all = vec![load(folder.path())];
    let config = json!({"eos_token": "<|im_end|>", "chat_template": marked});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    all.push(load(folder.path()));
    let turns =
        [Message::user("a"), Message::assistant("<|im_end|>b"), Message::user("c"), Message::assistant("d")];
    for tokenizer in all {
        let learnt_of = |chat: &Chat| learnt(&tokenizer, &tokenizer.conversation(chat).unwrap());
        assert_eq!(learnt_of(&chat(0, &turns)), "_<|im_end|>b<|im_end|>_d<|im_end|>");
        assert_eq!(learnt_of(&chat(1, &turns)), "_<|im_end|>b<|im_end|>_d<|im_end|>");
        assert_eq!(learnt_of(&chat(3, &turns)), "_d<|im_end|>");
        let weighted = [turns[0].clone(), weightless("b"), turns[2].clone(), turns[3].clone()];
        assert_eq!(learnt_of(&chat(0, &weighted)), "_d<|im_end|>");
        let ids = tokenizer.conversation(&chat(3, &turns)).unwrap().ids;
        let prompt = tokenizer.prompt_ids(&turns[..3]).unwrap();
        assert_eq!(ids, [prompt, tokenizer.response_ids("d")].concat());
    }
}

/// A tokenizer with this chat template.
fn with_template(template: &str) -> Tokenizer {
    let folder = folder();
    let config = json!({"eos_token": "<|im_end|>", "chat_template": template});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    load(folder.path())
}

#[test]
fn the_last_answer_is_learnt_as_the_template_writes_it_like_the_others() {
    let turns =
        [Message::user("a"), Message::assistant(" b "), Message::user("c"), Message::assistant(" d\n")];
    let learnt_with = |content: &str| {
        let tokenizer = with_template(&TEMPLATE.replace("m['content']", content));
        learnt(&tokenizer, &tokenizer.conversation(&chat(0, &turns)).unwrap())
    };
    assert_eq!(learnt_with("m['content']"), "_ b <|im_end|>_ d\n<|im_end|>");
    assert_eq!(learnt_with("m['content'] | trim"), "_b<|im_end|>_d<|im_end|>");
    assert_eq!(learnt_with("m['content'].lstrip()"), "_b <|im_end|>_d\n<|im_end|>");
    assert_eq!(learnt_with("m['content'].rstrip()"), "_ b<|im_end|>_ d<|im_end|>");
}

#[test]
fn calls_of_tools_that_the_template_leaves_out_are_an_error() {
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]);
    let said = |template: &str, turn: &Value| {
        let masked = with_template(template).conversation(&chat(0, &[Message::user("a"), answer(turn)]));
        masked.map(|_| ()).map_err(|error| error.to_string())
    };
    for content in ["", "b"] {
        let turn = json!({"role": "assistant", "content": content, "tool_calls": call});
        assert!(said(TEMPLATE, &turn).unwrap_err().contains("does not render"), "{content}");
        let rendering = TEMPLATE.replace("m['content']", "m['content'] + (m.tool_calls | string)");
        assert_eq!(said(&rendering, &turn), Ok(()));
    }
    assert_eq!(said(TEMPLATE, &json!({"role": "assistant", "content": "b", "tool_calls": []})), Ok(()));
}

#[test]
fn a_template_that_renders_nothing_gives_no_prompt() {
    let tokenizer = with_template("{% for m in messages %}{% endfor %}");
    let said = tokenizer.prompt_ids(&[Message::user("a")]).unwrap_err().to_string();
    assert!(said.contains("renders nothing"), "{said}");
}

#[test]
fn the_token_that_stops_is_learnt_where_the_marks_of_the_template_leave_it_out() {
    let folder = folder();
    let turns = [Message::user("a"), Message::assistant("b"), Message::user("c"), Message::assistant("d")];
    // The end of a turn stands after the marks, or is the beginning of the next turn, which the last one lacks.
    for (after, before) in [("<|im_end|>", ""), ("", "<|im_end|>")] {
        let template = format!(
            "{{% for m in messages %}}{{{{ '{before}' if not loop.first else '' }}}}{{{{ m['role'] + ':' }}}}\
             {{% if m['role'] == 'assistant' %}}{{% generation %}}{{{{ m['content'] }}}}{{% endgeneration %}}\
             {{% else %}}{{{{ m['content'] }}}}{{% endif %}}{{{{ '{after}' }}}}{{% endfor %}}\
             {{% if add_generation_prompt %}}{{{{ '{before}assistant:' }}}}{{% endif %}}"
        );
        let config = json!({"eos_token": "<|im_end|>", "chat_template": template});
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let tokenizer = load(folder.path());
        let masked = tokenizer.conversation(&chat(0, &turns)).unwrap();
        assert_eq!(learnt(&tokenizer, &masked), "_b<|im_end|>_d<|im_end|>", "{template}");
    }
}

#[test]
fn a_turn_that_the_template_renders_otherwise_later_is_not_learnt_and_is_counted() {
    let folder = folder();
    // As templates of models that reason drop what was thought before the last question.
    let forgetful = "{% for m in messages %}{{ m['role'] + ':' + (m['content'] if loop.revindex <= 2 else '-') + \
                     '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
    let config = json!({"eos_token": "<|im_end|>", "chat_template": forgetful});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = load(folder.path());
    let turns = [Message::user("a"), Message::assistant("b"), Message::user("c"), Message::assistant("d")];
    let masked = tokenizer.conversation(&chat(0, &turns)).unwrap();
    assert_eq!((learnt(&tokenizer, &masked).as_str(), masked.unmarked), ("_d<|im_end|>", 1));
}

#[test]
fn a_role_that_our_own_template_lacks_is_named() {
    let options = crate::bpe::TrainOptions { vocab_size: 300, ..Default::default() };
    let own: Tokenizer = crate::bpe::Tokenizer::train(["a b"], &options).unwrap().tokenizer.into();
    let error = own.prompt_ids(&[Message::new(Role::System, "s")]).unwrap_err().to_string();
    assert!(error.contains("`system`"), "{error}");
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
