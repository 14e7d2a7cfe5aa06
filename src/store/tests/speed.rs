//! Speeds the runner counts on; run with `cargo test --release store::tests::speed -- --ignored --nocapture`.

#![allow(clippy::print_stderr)]

use std::time::{Duration, Instant};

use super::*;

fn report(what: &str, from: Instant, limit: Duration) {
    let took = from.elapsed();
    eprintln!("{what}: {took:.2?} (limit {limit:?})");
    assert!(took < limit, "{what} took {took:?}, more than {limit:?}");
}

const MS: Duration = Duration::from_millis(1);

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn a_thousand_stages_are_looked_up_in_a_few_milliseconds() {
    let p = place();
    let from = Instant::now();
    let made = std::thread::scope(|s| {
        let half = |start: u64| {
            let p = &p;
            move || {
                let one = |n: u64| {
                    let output = p.file(&format!("o/{n}"), &format!("output {n}"));
                    let a = action(ingredients(n), &[("out", p.store.ingest(&output).unwrap())]);
                    p.store.put_action(&a).unwrap();
                    a
                };
                (start..start + 500).map(one).collect::<Vec<_>>()
            }
        };
        let first = s.spawn(half(0));
        let mut made = half(500)();
        made.extend(first.join().unwrap());
        made
    });
    report("ingest + put_action of 1000 tiny files by two threads", from, MS * 1500);
    std::thread::sleep(MS * 30);
    let from = Instant::now();
    p.store.flush().unwrap();
    report("flush after that", from, MS * 100);

    for what in ["first", "second"] {
        let store = p.reopened();
        let from = Instant::now();
        for a in &made {
            let known = store.action(&a.key).unwrap().unwrap();
            assert!(known.outputs.values().all(|output| store.is_whole(output).unwrap()));
        }
        report(&format!("1000 x (action + is_whole), {what} process"), from, MS * 25);
    }
}

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn unchanged_sources_are_known_by_their_stat() {
    let p = place();
    for n in 0..1000 {
        p.file(&format!("s/{n}"), &format!("source {n}"));
    }
    let from = Instant::now();
    let named = p.store.identify(&p.path("s")).unwrap();
    report("identify a folder of 1000 new files", from, MS * 100);
    std::thread::sleep(MS * 30);
    p.ingested("so that there is a store");
    p.store.flush().unwrap();
    let store = p.reopened();
    let from = Instant::now();
    assert_eq!(store.identify(&p.path("s")).unwrap(), named);
    report("the same again, in another process", from, MS * 10);
    let from = Instant::now();
    for n in 0..1000 {
        store.identify(&p.path(&format!("s/{n}"))).unwrap();
    }
    report("1000 x identify an unchanged file", from, MS * 10);

    for n in 0..10_000u64 {
        let path = PathBuf::from(format!("/home/somebody/projects/kiln/data/{n}.txt"));
        let stat = super::super::stat::Stat { dev: 64768, ino: n, size: n, mtime: 1 << 60, ctime: 1 << 60 };
        store.stats(|cache| cache.put_file(&path, stat, Digest::of_json(&json!(n))));
    }
    store.flush().unwrap();
    let store = p.reopened();
    let from = Instant::now();
    assert!(store.stats(|cache| cache.prepare_save(Path::new("/"))).is_none());
    report("load a stat cache of 11,000 entries", from, MS * 10);

    let from = Instant::now();
    assert_eq!(store.ingest(&p.path("s")).unwrap(), named);
    report("ingest a folder of 1000 files", from, MS * 2000);
}

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn a_gibibyte_is_hashed_at_the_speed_of_the_processor() {
    let p = place();
    let file = p.path("big");
    fs::write(&file, vec![7u8; 1 << 30]).unwrap();
    std::thread::sleep(MS * 30);
    let from = Instant::now();
    p.store.identify(&file).unwrap();
    report("hash 1 GiB", from, MS * 3000);
    let from = Instant::now();
    let kept = p.store.ingest(&file).unwrap();
    report("ingest 1 GiB (move, hash, sync)", from, MS * 30_000);
    let from = Instant::now();
    assert!(p.store.is_whole(&kept).unwrap());
    report("is_whole of it", from, MS);
}
