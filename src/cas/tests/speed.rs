//! Speeds the runner counts on; run by `make speed`.

#![allow(clippy::print_stderr)]

use std::time::{Duration, Instant};

use super::*;

/// Wall and processor time from its start. The limits are of processor time, which other work on the
/// machine does not change; what waits for the disk is reported only.
struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), Self::processor())
    }

    fn processor() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }

    fn report(self, what: &str, limit: Duration) {
        let (wall, cpu) = (self.0.elapsed(), Self::processor() - self.1);
        eprintln!("{what}: {wall:.2?} ({cpu:.2?} of processor time, limit {limit:?})");
        assert!(cpu < limit, "{what} took {cpu:?}, more than {limit:?}");
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn a_thousand_stages_are_looked_up_in_a_few_milliseconds() {
    let p = place();
    let watch = Watch::start();
    let made = std::thread::scope(|s| {
        let half = |start: u64| {
            let p = &p;
            move || {
                let one = |n: u64| {
                    let output = p.file(&format!("o/{n}"), &format!("output {n}"));
                    let a = action(key_inputs(n), &[("out", p.store.ingest(&output).unwrap())]);
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
    watch.report("ingest + put_action of 1000 tiny files by two threads", MS * 3000);
    std::thread::sleep(MS * 30);
    let watch = Watch::start();
    p.store.flush().unwrap();
    watch.report("flush after that", MS * 100);

    for what in ["first", "second"] {
        let store = p.reopened();
        let watch = Watch::start();
        for a in &made {
            let known = store.action(&a.key).unwrap().unwrap();
            assert!(known.outputs.values().all(|output| store.is_intact(output).unwrap()));
        }
        watch.report(&format!("1000 x (action + is_intact), {what} process"), MS * 25);
    }
}

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn unchanged_sources_are_known_by_their_stat() {
    let p = place();
    for n in 0..1000 {
        p.file(&format!("s/{n}"), &format!("source {n}"));
    }
    let watch = Watch::start();
    let named = p.store.named(&p.path("s")).unwrap();
    watch.report("identify a folder of 1000 new files", MS * 100);
    std::thread::sleep(MS * 30);
    p.ingested("so that there is a store");
    p.store.flush().unwrap();
    let store = p.reopened();
    let watch = Watch::start();
    assert_eq!(store.named(&p.path("s")).unwrap(), named);
    watch.report("the same again, in another process", MS * 10);
    let watch = Watch::start();
    for n in 0..1000 {
        store.named(&p.path(&format!("s/{n}"))).unwrap();
    }
    watch.report("1000 x identify an unchanged file", MS * 10);

    for n in 0..10_000u64 {
        let path = PathBuf::from(format!("/home/somebody/projects/kiln/data/{n}.txt"));
        let stat = super::super::Stat { dev: 64768, ino: n, size: n, mtime: 1 << 60, ctime: 1 << 60 };
        store.blobs.trust.record_file(&path, stat, Digest::of_json(&json!(n)));
    }
    store.flush().unwrap();
    let store = p.reopened();
    let watch = Watch::start();
    assert!(!store.blobs.trust.blob(&named.digest, &super::super::Stat::of(&fs::metadata("/").unwrap())));
    watch.report("load a stat index of 11,000 entries", MS * 10);

    let watch = Watch::start();
    assert_eq!(store.ingest(&p.path("s")).unwrap(), named);
    watch.report("ingest a folder of 1000 files", MS * 2000);
}

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn a_gibibyte_is_hashed_at_the_speed_of_the_processor() {
    let p = place();
    let file = p.path("big");
    fs::write(&file, vec![7u8; 1 << 30]).unwrap();
    std::thread::sleep(MS * 30);
    let watch = Watch::start();
    p.store.named(&file).unwrap();
    watch.report("hash 1 GiB", MS * 3000);
    let watch = Watch::start();
    let kept = p.store.ingest(&file).unwrap();
    watch.report("ingest 1 GiB (move, hash, sync)", MS * 30_000);
    let watch = Watch::start();
    assert!(p.store.is_intact(&kept).unwrap());
    watch.report("is_intact of it", MS);
}
