//! Folders, and what stands beside the tokenizer.

use std::path::Path;

use serde_json::{Value, json};

use super::super::ForeignTokenizer;
use super::{added, byte_level, ours, qwen, sentence_piece};

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load(files: &[(&str, &str)]) -> Result<ForeignTokenizer, String> {
    let folder = folder(files);
    ForeignTokenizer::load(folder.path()).map_err(|error| error.to_string())
}

fn with_config(config: Value) -> Result<ForeignTokenizer, String> {
    let generation = json!({"eos_token_id": 0});
    let read = ForeignTokenizer::from_values(&sentence_piece(), Some(&config), Some(&generation), None);
    read.map_err(|error| error.to_string())
}

#[test]
fn a_folder_needs_only_the_tokenizer_and_a_place_to_stop() {
    let file = byte_level().to_string();
    let tokenizer = load(&[("tokenizer.json", &file), ("config.json", r#"{"eos_token_id": 7}"#)]).unwrap();
    assert_eq!(tokenizer.stop_ids(), [7]);
    assert_eq!(tokenizer.eos_id(), Some(7));
    assert_eq!((tokenizer.bos_id(), tokenizer.pad_id(), tokenizer.chat_template()), (None, None, None));
    assert!(tokenizer.special_tokens().is_empty());
    let error = load(&[("tokenizer.json", &file)]).unwrap_err();
    assert!(error.contains("generation_config.json: eos_token_id"), "{error}");
    let error = load(&[("config.json", r#"{"eos_token_id": 7}"#)]).unwrap_err();
    assert!(error.contains("tokenizer.json: there is no such file"), "{error}");
}

#[test]
fn stop_ids_come_from_the_generation_first_then_from_the_model_then_from_the_tokenizer() {
    let config = json!({"eos_token": "</s>"});
    let stop = |generation: Value, model: Value| {
        let read =
            ForeignTokenizer::from_values(&sentence_piece(), Some(&config), Some(&generation), Some(&model));
        read.map(|tokenizer| tokenizer.stop_ids().to_vec()).map_err(|error| error.to_string())
    };
    assert_eq!(stop(json!({"eos_token_id": [9, 2, 9]}), json!({"eos_token_id": 5})).unwrap(), [2, 9]);
    assert_eq!(stop(json!({"eos_token_id": null}), json!({"eos_token_id": 5})).unwrap(), [5]);
    assert_eq!(stop(json!({}), json!({"text_config": {"eos_token_id": [6]}})).unwrap(), [6]);
    assert_eq!(stop(json!({"eos_token_id": []}), json!({})).unwrap(), [2]);
    for wrong in [json!(4_000_000), json!(-1), json!("2"), json!([2, 1e9]), json!(1_u64 << 40)] {
        let error = stop(json!({"eos_token_id": wrong}), json!({})).unwrap_err();
        assert!(error.contains("generation_config.json: eos_token_id"), "{error}");
    }
}

#[test]
fn names_of_special_tokens_are_read_as_transformers_reads_them() {
    let tokenizer = with_config(json!({
        "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": false, "normalized": true},
        "eos_token": "</s>", "pad_token": "[PAD]", "unk_token": null, "image_token": "a",
        "add_bos_token": true, "additional_special_tokens": ["b", {"content": "c"}], "model_max_length": 1e30,
    }))
    .unwrap();
    let names: Vec<_> =
        tokenizer.special_tokens().iter().map(|(name, token)| (name.as_str(), token.as_str())).collect();
    assert_eq!(
        names,
        [("bos_token", "<s>"), ("eos_token", "</s>"), ("image_token", "a"), ("pad_token", "[PAD]")]
    );
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (Some(1), Some(2)));
    // The model has no row for a token that the vocabulary has not.
    assert_eq!(tokenizer.pad_id(), None);
    assert_eq!(tokenizer.vocab_size(), ours(&sentence_piece()).vocab_size());
    for letter in ["a", "b", "c"] {
        let id = tokenizer.encode_with_specials(letter)[0];
        assert!(tokenizer.is_special(id), "{letter}");
    }
    assert!(!tokenizer.is_special(*tokenizer.encode("d").last().unwrap()));
}

#[test]
fn the_old_map_counts_where_the_configuration_does_not_list_added_tokens() {
    let file = sentence_piece().to_string();
    let map = r#"{"eos_token": {"content": "</s>", "lstrip": false}, "additional_special_tokens": ["a"]}"#;
    let files = |config| {
        [
            ("tokenizer.json", file.as_str()),
            ("special_tokens_map.json", map),
            ("tokenizer_config.json", config),
        ]
    };
    let tokenizer = load(&files("{}")).unwrap();
    assert_eq!(tokenizer.stop_ids(), [2]);
    assert!(tokenizer.is_special(tokenizer.encode_with_specials("a")[0]));
    let list = r#"{"eos_token": "<s>", "added_tokens_decoder": {}}"#;
    assert_eq!(load(&files(list)).unwrap().stop_ids(), [1]);
}

#[test]
fn the_list_of_added_tokens_in_the_configuration_changes_and_joins_those_of_the_tokenizer() {
    let size = ours(&sentence_piece()).vocab_size();
    let token = |content: &str, special: bool| {
        json!({"content": content, "lstrip": false, "rstrip": false,
        "normalized": false, "single_word": false, "special": special})
    };
    let decoder = |id: usize| {
        json!({"added_tokens_decoder": {
        "2": {"content": "</s>", "lstrip": true, "rstrip": false, "normalized": false, "single_word": false, "special": false},
        id.to_string(): token("<new>", true)}})
    };
    let tokenizer = with_config(decoder(size)).unwrap();
    assert_eq!(tokenizer.encode_with_specials("<new>"), [size as u32]);
    assert!(tokenizer.is_special(size as u32));
    assert!(tokenizer.is_special(2), "what is special somewhere stays so");
    assert_eq!(tokenizer.encode_with_specials("  </s>"), [2], "the flag of the configuration counts");
    let error = with_config(decoder(size + 5)).unwrap_err();
    assert!(error.contains("tokenizer_config.json: added_tokens_decoder"), "{error}");
}

#[test]
fn the_chat_template_is_the_one_that_transformers_takes() {
    let named = json!({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]});
    assert_eq!(with_config(named).unwrap().chat_template(), Some("D"));
    assert_eq!(with_config(json!({"chat_template": "S"})).unwrap().chat_template(), Some("S"));
    assert_eq!(
        with_config(json!({"chat_template": [{"name": "rag", "template": "R"}]})).unwrap().chat_template(),
        None
    );
    assert!(with_config(json!({"chat_template": 5})).unwrap_err().contains("chat_template"));
    let file = byte_level().to_string();
    let config = r#"{"chat_template": "S", "eos_token": "<s>"}"#;
    let files =
        [("tokenizer.json", file.as_str()), ("tokenizer_config.json", config), ("chat_template.jinja", "J")];
    assert_eq!(load(&files).unwrap().chat_template(), Some("J"));
}

#[test]
fn the_files_are_given_out_unchanged() {
    let file = format!("{}\n\n", byte_level());
    let given = [
        ("tokenizer.json", file.as_str()),
        ("generation_config.json", "{\"eos_token_id\":\t3}"),
        ("config.json", "{}"),
        ("chat_template.jinja", "{{ 'é' }}"),
    ];
    let tokenizer = load(&given).unwrap();
    let out = tempfile::tempdir().unwrap();
    for (name, bytes) in tokenizer.files() {
        std::fs::write(out.path().join(name), bytes).unwrap();
    }
    let mut names: Vec<_> =
        std::fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["chat_template.jinja", "generation_config.json", "tokenizer.json"]);
    for (name, text) in given.iter().filter(|(name, _)| *name != "config.json") {
        assert_eq!(std::fs::read_to_string(out.path().join(name)).unwrap(), *text);
    }
    assert!(ForeignTokenizer::load(out.path()).unwrap().same_ids(&tokenizer));
}

#[test]
fn json_in_memory_is_given_out_as_files_that_load() {
    let tokenizer = ours(&qwen());
    let out = tempfile::tempdir().unwrap();
    for (name, bytes) in tokenizer.files() {
        std::fs::write(out.path().join(name), bytes).unwrap();
    }
    let again = ForeignTokenizer::load(out.path()).unwrap();
    assert!(again.same_ids(&tokenizer));
    assert_eq!(again.stop_ids(), tokenizer.stop_ids());
}

#[test]
fn tokenizers_are_the_same_when_every_text_gets_the_same_ids() {
    assert!(ours(&byte_level()).same_ids(&ours(&byte_level())));
    let mut without_dead_parts = byte_level();
    without_dead_parts["decoder"] = Value::Null;
    without_dead_parts["pre_tokenizer"]["trim_offsets"] = false.into();
    assert!(ours(&byte_level()).same_ids(&ours(&without_dead_parts)));
    let changes: [fn(&mut Value); 6] = [
        |file| file["normalizer"] = json!({"type": "NFC"}),
        |file| file["pre_tokenizer"]["add_prefix_space"] = true.into(),
        |file| _ = file["model"]["merges"].as_array_mut().unwrap().pop(),
        |file| file["model"]["ignore_merges"] = true.into(),
        |file| file["added_tokens"][0]["lstrip"] = true.into(),
        |file| file["model"]["merges"].as_array_mut().unwrap().swap(0, 1),
    ];
    for change in changes {
        let mut changed = byte_level();
        change(&mut changed);
        assert!(!ours(&byte_level()).same_ids(&ours(&changed)));
    }
}

#[test]
fn merges_may_be_written_as_text_and_begin_with_a_comment() {
    let mut file = byte_level();
    let merges = file["model"]["merges"].as_array().unwrap();
    let text = |merge: &Value| format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
    let merges = std::iter::once("#version: 0.2".to_owned()).chain(merges.iter().map(text));
    file["model"]["merges"] = merges.collect();
    assert!(ours(&file).same_ids(&ours(&byte_level())));
    file["model"].as_object_mut().unwrap().remove("type");
    assert!(ours(&file).same_ids(&ours(&byte_level())));
}

#[test]
fn an_error_names_the_file_and_the_field() {
    let mut file = byte_level();
    file["added_tokens"][1]["id"] = 7.into();
    let files = [("tokenizer.json", file.to_string()), ("config.json", r#"{"eos_token_id": 7}"#.into())];
    let folder = folder(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let error = ForeignTokenizer::load(folder.path()).unwrap_err().to_string();
    let place = format!("{}: added_tokens[1]:", folder.path().join("tokenizer.json").display());
    assert!(error.starts_with(&place), "{error}");
    let error = load(&[("tokenizer.json", "{\n  \"model\": 5}")]).unwrap_err();
    assert!(error.contains("line 2 column"), "{error}");
    let error =
        load(&[("tokenizer.json", &byte_level().to_string()), ("tokenizer_config.json", "{")]).unwrap_err();
    assert!(error.contains("tokenizer_config.json: EOF"), "{error}");
}

#[test]
fn files_that_are_none_or_too_large_are_errors() {
    let folder = folder(&[("tokenizer.json", &byte_level().to_string())]);
    std::fs::create_dir(folder.path().join("config.json")).unwrap();
    let error = ForeignTokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json: this is not a regular file"), "{error}");
    std::fs::remove_dir(folder.path().join("config.json")).unwrap();
    let large = std::fs::File::create(folder.path().join("config.json")).unwrap();
    large.set_len(1 << 40).unwrap();
    let error = ForeignTokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json: 1099511627776 bytes are more"), "{error}");
    assert!(ForeignTokenizer::load(Path::new("/nowhere")).is_err());
}

#[test]
fn a_tokenizer_of_a_word_in_the_vocabulary_keeps_its_id() {
    let mut file = byte_level();
    let id = file["model"]["vocab"]["Ġthe"].as_u64().unwrap();
    file["added_tokens"].as_array_mut().unwrap().insert(0, added(id as usize, "Ġthe", false));
    assert_eq!(ours(&file).encode("Ġthe"), [id as u32]);
}
