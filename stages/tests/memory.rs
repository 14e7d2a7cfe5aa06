//! A text larger than the memory that its stages take.

// Helpers of tests fail as tests do; clippy takes only the tests themselves for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufWriter, Write};
use std::path::Path;

use common::{Ending, Place, Workshop};
use kiln::protocol::Event;
use kiln_stages::rng::keyed;
use rand::Rng;
use serde_json::json;

/// Bytes of the text.
const TEXT: u64 = 1 << 30;
/// What a stage may take in all, its program and its model included: a quarter of the text.
const MOST_MIB: f64 = 256.0;

/// Writes lines of words, some of them rare, until there are `TEXT` bytes.
fn write_text(path: &Path) {
    let mut out = BufWriter::new(std::fs::File::create(path).unwrap());
    let mut rng = keyed(1, "memory", 0, 0);
    let mut written = 0;
    while written < TEXT {
        let mut line = String::new();
        for _ in 0..12 {
            let word = (rng.random::<f64>().powi(6) * 200_000.0) as u64;
            line.push_str(&format!("{}{:x} ", ["the", "vögel", "rose", "数"][word as usize % 4], word));
        }
        line.push_str(".\n");
        out.write_all(line.as_bytes()).unwrap();
        written += line.len() as u64;
    }
    out.flush().unwrap();
}

/// The most memory that a child of this process had, in MiB.
fn peak_of_children() -> f64 {
    // SAFETY: a struct of numbers may be zeros, and the call fills it.
    #[allow(unsafe_code)]
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage), 0);
        usage
    };
    usage.ru_maxrss as f64 / 1024.0
}

fn peaks(place: &Place) -> Vec<f64> {
    let run = place.run(Ending::Done, None);
    assert_eq!(run.code, Some(0), "{:?}", run.error());
    let peak = |event: &Event| match event {
        Event::Metric { values, .. } => values.get("train/peak_memory_mib").copied(),
        _ => None,
    };
    run.events.iter().filter_map(peak).collect()
}

#[test]
#[ignore = "takes a minute and 3 GB of disk: a text of 1 GiB"]
fn a_text_of_a_gibibyte_is_learnt_from_in_a_quarter_of_its_memory_and_nothing_grows_over_2000_steps() {
    let workshop = Workshop::in_folder("memory");
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    write_text(&text);
    let tokenizer = workshop.tokenizer(2).with("vocab_size", json!(4096)).input("corpus", &text);
    assert_eq!(tokenizer.place().run(Ending::Done, None).code, Some(0));
    assert!(peak_of_children() < MOST_MIB, "{} MiB", peak_of_children());
    let pretrain = workshop.pretrain().with("steps", json!(2000)).with("eval_every", json!(500));
    let peaks = peaks(&pretrain.input("corpus", &text).place());
    assert!(peak_of_children() < MOST_MIB, "{} MiB", peak_of_children());
    let (early, late) = (peaks[peaks.len() / 4], peaks[peaks.len() - 1]);
    println!("{} MiB in all, {early} MiB after 500 steps, {late} MiB after 2,000", peak_of_children());
    assert!(late < early + 8.0, "{early} MiB after a quarter of the steps, {late} MiB at their end");
}
