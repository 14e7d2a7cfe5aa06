//! The corpus of the fuzzer, and files near it.

use std::path::PathBuf;

use proptest::prelude::*;

use super::{Parts, fixture};
use crate::gguf::{Documents, GgufFile, Imported, Precision, export_to, exported_tensors, fuzz};

const FILES: [&str; 5] = ["llama", "qwen2", "qwen3", "gpt2", "types"];

#[test]
fn no_file_of_the_corpus_breaks_a_rule() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/gguf");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        fuzz(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > FILES.len());
}

#[test]
fn the_models_of_the_corpus_are_models() {
    for name in &FILES[..4] {
        assert!(Imported::new(GgufFile::new(fixture(name)).unwrap()).is_ok(), "{name}");
    }
}

#[test]
fn the_documents_of_the_corpus_are_exported() {
    for name in ["llama.json", "qwen3.json"] {
        let documents: serde_json::Value = serde_json::from_slice(&fixture(name)).unwrap();
        let content = Documents {
            config: &documents["config"],
            tokenizer: &documents["tokenizer"],
            tokenizer_config: &documents["tokenizer_config"],
            generation_config: &documents["generation_config"],
        };
        let values = |_: &str, shape: &[usize], out: &mut Vec<f32>| {
            out.resize(shape.iter().product(), 1.0);
            Ok::<(), String>(())
        };
        let bytes = export_to(Vec::new(), &content, "tiny", Precision::F16, values).unwrap();
        assert!(Imported::new(GgufFile::new(bytes).unwrap()).is_ok(), "{name}");
    }
}

#[test]
fn an_epsilon_that_is_0_in_32_bits_is_not_written() {
    let documents: serde_json::Value = serde_json::from_slice(&fixture("epsilon_0_in_32_bits.json")).unwrap();
    assert!(documents["config"]["rms_norm_eps"].as_f64().unwrap() > 0.0);
    let message = exported_tensors(&documents["config"]).unwrap_err().to_string();
    assert_eq!(message, "config.json: `rms_norm_eps` is 2e-52; it must lie between 1e-30 and 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_bytes_break_no_rule(
        name in prop::sample::select(&FILES[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = fixture(name);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        fuzz(&bytes);
    }

    #[test]
    fn changed_numbers_break_no_rule(
        name in prop::sample::select(&FILES[..]),
        place in any::<prop::sample::Index>(),
        number in prop_oneof![Just(0u64), Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX)), 0u64..64],
    ) {
        let mut bytes = fixture(name);
        let place = place.index(bytes.len() - 8);
        bytes[place..place + 8].copy_from_slice(&number.to_le_bytes());
        fuzz(&bytes);
    }
}

#[test]
fn a_file_without_metadata_is_a_file() {
    let parts = Parts { entries: Vec::new(), tensors: Vec::new() };
    assert_eq!(parts.file().tensors().len(), 0);
    fuzz(&parts.bytes());
}
