//! Actions.

use proptest::prelude::*;

use super::super::{Committed, StoreError};
use super::*;

fn path_of(p: &Place, action: &Action) -> PathBuf {
    p.store.actions.path(&action.key)
}

#[test]
fn an_action_is_found_by_its_key_and_by_no_other() {
    let p = place();
    let a = action(key_inputs(1), &[("model", p.ingested("m"))]);
    assert_eq!(p.store.action(&a.key).unwrap(), None);
    assert_eq!(p.store.put_action(&a).unwrap(), Committed::New);
    assert_eq!(p.reopened().action(&a.key).unwrap(), Some(a.clone()));
    assert_eq!(p.store.put_action(&a).unwrap(), Committed::Same);
    let other = Digest::of_json(&key_inputs(2));
    assert_eq!(p.store.action(&other).unwrap(), None);
    let misfiled = p.store.actions.path(&other);
    fs::create_dir_all(misfiled.parent().unwrap()).unwrap();
    fs::copy(path_of(&p, &a), misfiled).unwrap();
    assert_eq!(p.store.action(&other).unwrap(), None);
}

#[test]
fn a_truncated_action_is_a_miss_and_is_written_anew() {
    let p = place();
    let a = action(key_inputs(1), &[("model", p.ingested("m"))]);
    p.store.put_action(&a).unwrap();
    let whole = fs::read(path_of(&p, &a)).unwrap();
    for length in 0..whole.len() {
        fs::write(path_of(&p, &a), &whole[..length]).unwrap();
        assert_eq!(p.store.action(&a.key).unwrap(), None, "{length} bytes");
    }
    assert_eq!(p.store.put_action(&a).unwrap(), Committed::Healed);
    assert_eq!(p.store.action(&a.key).unwrap(), Some(a));
}

#[test]
fn an_action_with_changed_key_inputs_or_of_another_format_is_a_miss() {
    let p = place();
    let a = action(key_inputs(1), &[]);
    p.store.put_action(&a).unwrap();
    let text = fs::read_to_string(path_of(&p, &a)).unwrap();
    for (from, to) in [("0.00001", "0.00002"), ("kiln.action/2", "kiln.action/1"), ("\"sft\"", "\"ppo\"")] {
        assert!(text.contains(from), "{text}");
        fs::write(path_of(&p, &a), text.replace(from, to)).unwrap();
        assert_eq!(p.store.action(&a.key).unwrap(), None, "{to}");
    }
}

#[test]
fn other_outputs_for_the_same_key_are_reported_and_the_first_stay_while_they_are_intact() {
    let p = place();
    let first = action(key_inputs(1), &[("model", p.ingested("one"))]);
    let second = action(key_inputs(1), &[("model", p.ingested("two"))]);
    p.store.put_action(&first).unwrap();
    assert_eq!(
        p.store.put_action(&second).unwrap(),
        Committed::Conflict { previous: Box::new(first.clone()), replaced: false }
    );
    assert_eq!(p.store.action(&first.key).unwrap(), Some(first.clone()));
    fs::remove_file(p.store.blob(&first.outputs["model"].digest)).unwrap();
    assert_eq!(p.store.put_action(&second).unwrap(), Committed::Healed);
    assert_eq!(p.store.action(&first.key).unwrap(), Some(second));
}

#[test]
fn a_forced_result_replaces_the_record_and_the_one_before_stays_to_be_compared() {
    let p = place();
    let first = action(key_inputs(1), &[("model", p.ingested("one"))]);
    let second = action(key_inputs(1), &[("model", p.ingested("two"))]);
    let forced = |action: &Action| {
        let pending =
            PendingCommit { action: Some(action.clone()), replace: true, ..PendingCommit::default() };
        p.store.commit(vec![pending]).remove(0).unwrap().unwrap()
    };
    assert_eq!(forced(&first), Committed::New);
    assert_eq!(forced(&first), Committed::Same);
    assert_eq!(p.store.previous_action(&first.key).unwrap(), None);
    let conflict = Committed::Conflict { previous: Box::new(first.clone()), replaced: true };
    assert_eq!(forced(&second), conflict);
    let store = p.reopened();
    assert_eq!(store.action(&first.key).unwrap(), Some(second));
    assert_eq!(store.previous_action(&first.key).unwrap(), Some(first.clone()));
    let mut keys = Vec::new();
    let mut each = |key| {
        keys.push(key);
        Ok(())
    };
    store.actions().list(&mut each).unwrap();
    assert_eq!(keys, [first.key], "the older one is no action of its own");
}

#[test]
fn the_first_output_that_is_missing_or_damaged_is_named() {
    let p = place();
    let (a, b) = (p.ingested("a"), p.ingested("b"));
    let made = action(key_inputs(1), &[("a", a), ("b", b)]);
    p.store.put_action(&made).unwrap();
    assert_eq!(p.store.outputs_intact(&made, ["a", "b"]).unwrap(), None);
    assert_eq!(p.store.outputs_intact(&made, ["a", "c"]).unwrap().as_deref(), Some("c"));
    fs::remove_file(p.store.blob(&b.digest)).unwrap();
    assert_eq!(p.store.outputs_intact(&made, made.outputs.keys()).unwrap().as_deref(), Some("b"));
    assert_eq!(p.store.outputs_intact(&made, ["a"]).unwrap(), None);
}

#[test]
fn blobs_and_actions_are_kept_and_listed_by_their_traits() {
    let p = place();
    let (blobs, actions) = (p.store.blobs(), p.store.actions());
    let file = p.file("mine", "bytes");
    let digest = Digest::of_bytes(b"bytes");
    assert_eq!(blobs.exists(&digest).unwrap(), None);
    assert!(blobs.open(&digest).unwrap().is_none());
    assert!(blobs.put(&Digest::of_bytes(b"other"), &file).is_err());
    for _ in 0..2 {
        blobs.put(&digest, &file).unwrap();
    }
    assert_eq!(blobs.exists(&digest).unwrap(), Some(5));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut blobs.open(&digest).unwrap().unwrap(), &mut text).unwrap();
    assert_eq!(text, "bytes");
    let a = action(key_inputs(1), &[]);
    assert!(actions.get(&a.key).unwrap().is_none());
    assert!(actions.put(&a).unwrap() && !actions.put(&a).unwrap());
    assert_eq!(actions.get(&a.key).unwrap(), Some(a));
}

#[test]
fn an_action_without_its_blobs_or_with_a_wrong_key_is_not_kept() {
    let p = place();
    let missing = ArtifactRef { digest: Digest::of_bytes(b"gone"), tree: false, executable: false, size: 4 };
    let a = action(key_inputs(1), &[("model", missing)]);
    assert!(matches!(p.store.put_action(&a), Err(StoreError::NotIntact(d)) if d == missing.digest));
    let a = Action { key: missing.digest, ..action(key_inputs(1), &[]) };
    assert!(matches!(p.store.put_action(&a), Err(StoreError::BadKey(_))));
    assert!(files_below(&p.store.root().join("actions")).is_empty());
}

#[test]
fn a_number_that_is_not_finite_does_not_make_an_action_unreadable() {
    let p = place();
    let mut a = action(key_inputs(1), &[]);
    a.provenance.summary = vec![("nan".into(), f64::NAN), ("loss".into(), 0.5)];
    p.store.put_action(&a).unwrap();
    let back = p.store.action(&a.key).unwrap().unwrap();
    assert_eq!(back.provenance.summary, [("loss".to_owned(), 0.5)]);
}

proptest! {
    #[test]
    fn an_action_with_any_number_among_its_key_inputs_is_found_again(
        x in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL, n: u64, i: i64, s: String
    ) {
        let p = quick_place();
        let a = action(json!({"x": x, "n": n, "i": i, "text": s}), &[]);
        p.store.put_action(&a).unwrap();
        let back = p.store.action(&a.key).unwrap();
        prop_assert_eq!(back.map(|b| b.key), Some(a.key));
    }
}
