//! Training against the definition, recounted at every step.

use std::collections::HashMap;

use proptest::prelude::*;

use super::mixed;
use crate::bpe::{Pattern, Tokenizer, TokenizerError, TrainOptions};

/// The merges by recounting everything each time: the largest count wins, then the smaller ids.
fn slowly(text: &str, pattern: Pattern, merges: usize, min_count: u64) -> Vec<(u32, u32)> {
    let mut words: Vec<Vec<u32>> =
        pattern.pieces(text).map(|piece| piece.bytes().map(u32::from).collect()).collect();
    let mut learnt = Vec::new();
    while learnt.len() < merges {
        let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        let best = counts.into_iter().max_by_key(|&(pair, count)| (count, std::cmp::Reverse(pair)));
        let Some((pair, count)) = best else { break };
        if count < min_count {
            break;
        }
        let made = 256 + learnt.len() as u32;
        words.iter_mut().for_each(|word| merge(word, pair, made));
        learnt.push(pair);
    }
    learnt
}

/// Replaces the pair by its token, from left to right.
pub(super) fn merge(word: &mut Vec<u32>, (left, right): (u32, u32), made: u32) {
    let mut at = 0;
    while at + 1 < word.len() {
        if word[at] == left && word[at + 1] == right {
            word.splice(at..at + 2, [made]);
        }
        at += 1;
    }
}

fn train(text: &str, options: &TrainOptions) -> Vec<(u32, u32)> {
    Tokenizer::train([text], options).unwrap().tokenizer.vocabulary().merges().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn incremental_counts_give_the_merges_of_recounting(text in mixed(), min_count in 1u64..3) {
        for pattern in Pattern::ALL {
            let options = TrainOptions { vocab_size: 261 + 60, pattern, min_count };
            prop_assert_eq!(train(&text, &options), slowly(&text, pattern, 60, min_count));
        }
    }

    #[test]
    fn runs_and_overlaps_are_counted_exactly(text in "[ab ]{0,200}") {
        let options = TrainOptions { vocab_size: 261 + 80, pattern: Pattern::Gpt2, min_count: 1 };
        prop_assert_eq!(train(&text, &options), slowly(&text, Pattern::Gpt2, 80, 1));
    }

    #[test]
    fn the_order_of_texts_and_the_number_of_threads_change_nothing(mut texts in prop::collection::vec(mixed(), 1..6)) {
        let options = TrainOptions { vocab_size: 320, ..TrainOptions::default() };
        let train = |texts: &[String], threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let trained = pool.install(|| Tokenizer::train(texts, &options)).unwrap();
            trained.tokenizer.vocabulary().merges().to_vec()
        };
        let forward = train(&texts, 1);
        texts.reverse();
        prop_assert_eq!(forward, train(&texts, 4));
    }
}

#[test]
fn a_long_text_is_counted_alike_by_one_thread_and_by_four() {
    let text = super::SAMPLE.repeat(10_000);
    let once = trained_merges(super::SAMPLE, 1);
    for threads in [1, 4] {
        // Every count is 10,000 times as large, so the merges are the same; stretches must not show.
        assert_eq!(trained_merges(&text, threads), once);
    }
}

fn trained_merges(text: &str, threads: usize) -> Vec<(u32, u32)> {
    let options = TrainOptions { vocab_size: 261 + 40, pattern: Pattern::Gpt4, min_count: 1 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| train(text, &options))
}

#[test]
fn three_merges_of_the_classic_example_give_the_classic_ids() {
    let tokenizer = super::trained_on("aaabdaaabac", Pattern::Gpt4, 256 + 3 + 5);
    assert_eq!(tokenizer.encode("aaabdaaabac"), [258, 100, 258, 97, 99]);
    assert_eq!(tokenizer.vocab_size(), 264);
}

#[test]
fn a_vocabulary_that_the_text_cannot_fill_is_smaller_and_says_so() {
    let options = TrainOptions { vocab_size: 1000, ..TrainOptions::default() };
    let trained = Tokenizer::train(["low lower lowest"], &options).unwrap();
    let size = trained.tokenizer.vocab_size();
    assert!((262..270).contains(&size), "{size}");
    let note = trained.note.unwrap();
    assert!(note.contains("vocab_size 1000") && note.contains(&format!("{size} tokens")), "{note}");
    let enough = TrainOptions { vocab_size: size, ..options };
    assert!(Tokenizer::train(["low lower lowest"], &enough).unwrap().note.is_none());
}

#[test]
fn a_vocabulary_without_room_for_the_bytes_is_refused() {
    for vocab_size in [0, 260, (1 << 20) + 1] {
        let error =
            Tokenizer::train(["text"], &TrainOptions { vocab_size, ..TrainOptions::default() }).unwrap_err();
        assert!(matches!(error, TokenizerError::VocabSize { asked, least: 261, .. } if asked == vocab_size));
        assert!(error.to_string().contains("261 (256 bytes and 5 special tokens)"), "{error}");
    }
}

#[test]
fn no_text_at_all_gives_the_bytes_and_the_special_tokens() {
    let trained = Tokenizer::train(Vec::<String>::new(), &TrainOptions::default()).unwrap();
    assert_eq!(trained.tokenizer.vocab_size(), 261);
    assert_eq!(trained.tokenizer.encode("hé"), [104, 195, 169]);
}

#[test]
fn a_megabyte_without_a_space_trains_in_no_time_and_makes_no_endless_token() {
    let text = "ab".repeat(500_000);
    let trained =
        Tokenizer::train([text], &TrainOptions { min_count: 1, ..TrainOptions::default() }).unwrap();
    let vocabulary = trained.tokenizer.vocabulary();
    let longest =
        (0..vocabulary.len() as u32).filter_map(|id| vocabulary.bytes_of(id)).map(<[u8]>::len).max();
    assert_eq!(longest, Some(1024));
}
