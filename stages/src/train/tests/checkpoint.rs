//! Checkpoints that must not be resumed, and those that must.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::context::{Context, StageError};
use crate::testing::context;
use crate::train::Checkpoints;
use crate::train::checkpoint::{MARKER, RESUMES, STATE};
use crate::train::origin::Origin;
use crate::train::state::Saved;
use crate::train::state_file::{MAGIC, StateFile};

/// The values of the state here: some that a careless writer would change.
const ODD: [f32; 6] = [-0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY, f32::NAN, 1.0 / 3.0, f32::MAX];
const VALUES: usize = ODD.len();

/// The state before a step.
fn state(step: u64) -> Saved<'static> {
    let mut saved = Saved { tensors: vec![("a".to_owned(), ODD.to_vec().into())], ..Saved::default() };
    saved.counter("step", step);
    saved.counter("third", 1.0 / 3.0);
    saved
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// What stands there instead of a state that must not be asked for.
fn no_state() -> Saved<'static> {
    unreachable!("there is nothing to save")
}

/// A folder with a checkpoint of step 7, and the context of the next attempt.
fn checkpointed() -> (tempfile::TempDir, Context) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = context(folder.path(), &Arc::new(AtomicBool::new(false)));
    StateFile::write(&folder.path().join(STATE), &Origin::new(&ctx), &state(7)).unwrap();
    (folder, ctx)
}

/// The step that an attempt resumes from, if it does.
fn resume(checkpoints: &mut Checkpoints, ctx: &Context) -> Option<u64> {
    checkpoints.resume(ctx, |mut reader| reader.counter("step"))
}

/// An attempt that resumes, and whose process dies before its first step has ended.
fn killed(ctx: &Context) -> bool {
    let mut checkpoints = Checkpoints::new(ctx, VALUES);
    let resumed = resume(&mut checkpoints, ctx).is_some();
    std::mem::forget(checkpoints);
    resumed
}

/// An attempt that ends well right after it has resumed, if it does.
fn resumes(ctx: &Context) -> bool {
    let mut checkpoints = Checkpoints::new(ctx, VALUES);
    let resumed = resume(&mut checkpoints, ctx).is_some();
    checkpoints.finish();
    resumed
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn assert_discarded(folder: &Path, ctx: &Context, what: &str) {
    assert!(!resumes(ctx), "{what}: it was resumed");
    assert_eq!(names(folder), Vec::<String>::new(), "{what}: it was not removed");
}

#[test]
fn a_checkpoint_reads_back_bit_for_bit() {
    let (_folder, ctx) = checkpointed();
    let mut checkpoints = Checkpoints::new(&ctx, VALUES);
    let mut found = checkpoints.resume(&ctx, Ok).unwrap();
    checkpoints.finish();
    assert_eq!((found.counters.len(), found.tensors.len()), (2, 1));
    assert_eq!(found.counter::<u64>("step"), Ok(7));
    assert_eq!(found.counter::<f64>("third").map(f64::to_bits), Ok((1.0f64 / 3.0).to_bits()));
    let values = found.tensor("a", VALUES).unwrap();
    assert_eq!(bits(&values), bits(&ODD));
}

#[test]
fn a_checkpoint_with_any_flipped_byte_or_bit_is_discarded() {
    let (folder, ctx) = checkpointed();
    let path = folder.path().join(STATE);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for mask in [0xff, 1 << (at % 8)] {
            let mut damaged = whole.clone();
            damaged[at] ^= mask;
            std::fs::write(&path, damaged).unwrap();
            assert_discarded(folder.path(), &ctx, &format!("byte {at} ^ {mask}"));
        }
    }
    std::fs::write(&path, whole).unwrap();
    assert!(resumes(&ctx), "the whole one is resumed");
}

#[test]
fn a_checkpoint_that_is_truncated_or_longer_is_discarded() {
    let (folder, ctx) = checkpointed();
    let path = folder.path().join(STATE);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_discarded(folder.path(), &ctx, &format!("{length} bytes"));
    }
    std::fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert_discarded(folder.path(), &ctx, "one byte more");
}

#[test]
fn a_checkpoint_of_another_origin_is_discarded() {
    let (folder, ctx) = checkpointed();
    let ours = Origin::new(&ctx);
    let mut others = vec![
        Origin { request: "other".to_owned(), ..ours.clone() },
        Origin { program: "other".to_owned(), ..ours.clone() },
        Origin { numerics: BTreeMap::new(), ..ours.clone() },
    ];
    for name in ours.numerics.keys().chain([&"more".to_owned()]) {
        let mut other = ours.clone();
        other.numerics.insert(name.clone(), "other".to_owned());
        others.push(other);
    }
    for name in ["device", "libtorch", "arch"] {
        assert!(ours.numerics.contains_key(name), "{name}");
    }
    for other in others {
        StateFile::write(&folder.path().join(STATE), &other, &state(7)).unwrap();
        assert_discarded(folder.path(), &ctx, &format!("{other:?}"));
    }
}

#[test]
fn a_file_of_an_earlier_or_later_format_is_discarded() {
    let (folder, ctx) = checkpointed();
    let path = folder.path().join(STATE);
    let whole = std::fs::read(&path).unwrap();
    for version in [b'1', b'2', b'4'] {
        let mut other = whole.clone();
        other[MAGIC.len() - 2] = version;
        std::fs::write(&path, other).unwrap();
        assert_discarded(folder.path(), &ctx, "another version");
    }
    std::fs::write(&path, &whole[MAGIC.len() + 32..]).unwrap();
    assert_discarded(folder.path(), &ctx, "the bare safetensors file of the first format");
}

#[test]
fn a_hostile_file_costs_no_memory_and_no_time() {
    let (folder, ctx) = checkpointed();
    let path = folder.path().join(STATE);
    // Far more bytes than the state needs, of which the disk holds none.
    let sparse = std::fs::File::create(&path).unwrap();
    sparse.set_len(1 << 40).unwrap();
    assert_discarded(folder.path(), &ctx, "a sparse file of 1 TiB");
    // A right checksum over lengths that are lies.
    for payload in [&u64::MAX.to_le_bytes()[..], &(1u64 << 40).to_le_bytes(), &[0; 8], b""] {
        let checksum: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(payload).into();
        std::fs::write(&path, [MAGIC, &checksum, payload].concat()).unwrap();
        assert_discarded(folder.path(), &ctx, &format!("{payload:?}"));
    }
    std::fs::create_dir_all(path.join("folder")).unwrap();
    assert_discarded(folder.path(), &ctx, "a folder");
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_discarded(folder.path(), &ctx, "a link to a device");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_discarded(folder.path(), &ctx, "a pipe that nobody writes to");
}

#[test]
fn a_state_that_is_resumed_twice_without_a_step_is_discarded_and_the_stage_starts_over() {
    let (folder, ctx) = checkpointed();
    for time in 1..=RESUMES {
        assert!(killed(&ctx), "kill -9 number {time} right after a resume loses nothing");
    }
    assert!(!killed(&ctx));
    assert_eq!(names(folder.path()), Vec::<String>::new());
    assert!(!killed(&ctx), "and a fresh start is no resume");
}

#[test]
fn a_resumed_attempt_saves_after_its_first_step_and_the_count_begins_again() {
    let (folder, ctx) = checkpointed();
    for step in 7..20u64 {
        let mut checkpoints = Checkpoints::new(&ctx, VALUES);
        assert_eq!(resume(&mut checkpoints, &ctx).unwrap(), step);
        checkpoints.save_if_due(&ctx, no_state).unwrap();
        assert_eq!(names(folder.path()), [MARKER, STATE]);
        checkpoints.save_if_due(&ctx, || state(step + 1)).unwrap();
        assert_eq!(names(folder.path()), [STATE]);
        std::mem::forget(checkpoints);
    }
}

#[test]
fn an_attempt_that_fails_right_after_it_has_resumed_removes_the_checkpoint() {
    let (folder, ctx) = checkpointed();
    let mut checkpoints = Checkpoints::new(&ctx, VALUES);
    assert!(resume(&mut checkpoints, &ctx).is_some());
    drop(checkpoints);
    assert_eq!(names(folder.path()), Vec::<String>::new(), "before the first step");

    let (folder, ctx) = checkpointed();
    let panicked = std::thread::spawn(move || {
        let mut checkpoints = Checkpoints::new(&ctx, VALUES);
        assert!(resume(&mut checkpoints, &ctx).is_some());
        checkpoints.save_if_due(&ctx, || state(7)).unwrap();
        panic!("a step that panics");
    });
    assert!(panicked.join().is_err());
    assert_eq!(names(folder.path()), Vec::<String>::new(), "in the first step");
}

#[test]
fn a_restore_that_fails_or_panics_discards_the_checkpoint() {
    let (folder, ctx) = checkpointed();
    let mut checkpoints = Checkpoints::new(&ctx, VALUES);
    let found: Option<u64> = checkpoints.resume(&ctx, |_| Err("it does not fit".to_owned()));
    assert_eq!((found, names(folder.path())), (None, Vec::new()));

    let (folder, ctx) = checkpointed();
    let panicked = std::thread::spawn(move || {
        Checkpoints::new(&ctx, VALUES).resume(&ctx, |_| -> Result<u64, String> { panic!("it is odd") })
    });
    assert!(panicked.join().is_err());
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn an_attempt_that_fails_after_a_newer_checkpoint_keeps_it() {
    let (folder, ctx) = checkpointed();
    let mut checkpoints = Checkpoints::new(&ctx, VALUES);
    assert!(resume(&mut checkpoints, &ctx).is_some());
    checkpoints.save_if_due(&ctx, no_state).unwrap();
    checkpoints.save_if_due(&ctx, || state(8)).unwrap();
    drop(checkpoints);
    assert_eq!(names(folder.path()), [STATE]);
}

#[test]
fn a_request_to_stop_right_after_a_resume_keeps_the_checkpoint_however_often_it_comes() {
    let (folder, _) = checkpointed();
    let stop = Arc::new(AtomicBool::new(true));
    let ctx = context(folder.path(), &stop);
    let before = std::fs::read(folder.path().join(STATE)).unwrap();
    for _ in 0..10 {
        let mut checkpoints = Checkpoints::new(&ctx, VALUES);
        assert_eq!(resume(&mut checkpoints, &ctx).unwrap(), 7);
        let stopped = checkpoints.save_if_due(&ctx, no_state);
        assert!(matches!(stopped, Err(StageError::Interrupted)));
        drop(checkpoints);
        assert_eq!(names(folder.path()), [STATE]);
    }
    assert_eq!(std::fs::read(folder.path().join(STATE)).unwrap(), before);
    stop.store(false, Ordering::Relaxed);
    assert!(resumes(&ctx));
}

#[test]
fn a_marker_of_another_state_or_a_damaged_one_does_not_count() {
    let (folder, ctx) = checkpointed();
    for text in ["", "{", r#"{"checkpoint":"0","resumes":9}"#, "\u{0}\u{0}"] {
        std::fs::write(folder.path().join(MARKER), text).unwrap();
        assert!(resumes(&ctx), "{text}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_fails_the_stage_only_where_it_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(true));
    let ctx = context(&folder.path().join("missing"), &stop);
    let saved = Checkpoints::new(&ctx, VALUES).save_if_due(&ctx, || state(7));
    assert!(matches!(saved, Err(StageError::Failed(message)) if message.contains("missing")));

    let (folder, ctx) = checkpointed();
    let mut checkpoints = Checkpoints::new(&ctx, VALUES);
    assert!(resume(&mut checkpoints, &ctx).is_some());
    checkpoints.save_if_due(&ctx, no_state).unwrap();
    let blocked = folder.path().join("state.tmp");
    std::fs::create_dir(&blocked).unwrap();
    checkpoints.save_if_due(&ctx, || state(8)).unwrap();
    drop(checkpoints);
    assert_eq!(names(folder.path()), [MARKER, STATE, "state.tmp"], "the old one is kept");
}

#[test]
fn a_checkpoint_is_not_written_before_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = context(folder.path(), &Arc::new(AtomicBool::new(false)));
    Checkpoints::new(&ctx, VALUES).save_if_due(&ctx, no_state).unwrap();
}
