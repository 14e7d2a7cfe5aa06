//! The signs that RL goes wrong.

use crate::rl::health::Health;
use crate::rl::rollout::RolloutStats;
use crate::rl::update::UpdateStats;

fn rollout(k1: f64, length: f64) -> RolloutStats {
    RolloutStats { k1, length, ..RolloutStats::default() }
}

fn well() -> UpdateStats {
    but(|_| {})
}

/// An update that is well but for a change.
fn but(change: fn(&mut UpdateStats)) -> UpdateStats {
    let mut stats = UpdateStats::default();
    stats.ratio = 1.0;
    change(&mut stats);
    stats
}

/// The codes of the signs that a run of updates gives.
fn codes(updates: impl IntoIterator<Item = (RolloutStats, UpdateStats, Option<f64>)>) -> Vec<&'static str> {
    let mut health = Health::default();
    let looks = updates.into_iter().flat_map(|(r, u, v)| health.look(&r, &u, v, 40));
    looks
        .map(|(code, message, advice)| {
            assert!(!message.is_empty() && !advice.is_empty());
            code
        })
        .collect()
}

#[test]
fn a_run_that_is_well_gives_no_sign() {
    assert!(codes((0..100).map(|_| (rollout(3.0, 20.0), well(), Some(0.5)))).is_empty());
}

#[test]
fn a_kl_out_of_range_is_a_sign_after_20_updates_in_a_row_and_not_before() {
    for (kl, code) in [(10.5, "kl-high"), (-0.1, "kl-negative")] {
        let run = |n: usize| codes((0..n).map(|_| (rollout(kl, 20.0), well(), None)));
        assert!(run(19).is_empty());
        assert_eq!(run(20), [code]);
        let broken = (0..60).map(|i| (rollout(if i % 20 == 19 { 5.0 } else { kl }, 20.0), well(), None));
        assert!(codes(broken).is_empty(), "19 in a row, again and again");
    }
}

#[test]
fn a_sign_is_given_once() {
    assert_eq!(codes((0..200).map(|_| (rollout(11.0, 20.0), well(), None))), ["kl-high"]);
}

#[test]
fn a_ratio_far_from_1_and_too_much_clipping_are_signs_at_once() {
    let far = but(|s| s.ratio = 1.3);
    let clipped = but(|s| s.clip_fraction = 0.31);
    assert_eq!(codes([(rollout(1.0, 20.0), far, None)]), ["ratio-far"]);
    assert_eq!(codes([(rollout(1.0, 20.0), clipped, None)]), ["clip-high"]);
    assert!(codes([(rollout(1.0, 20.0), but(|s| s.clip_fraction = 0.3), None)]).is_empty());
}

#[test]
fn responses_that_grow_to_the_limit_are_a_sign() {
    assert_eq!(
        codes([(rollout(1.0, 15.0), well(), None), (rollout(1.0, 39.0), well(), None)]),
        ["length-exploding"]
    );
    assert!(codes([(rollout(1.0, 39.0), well(), None); 3]).is_empty(), "they were long from the start");
}

#[test]
fn values_that_predict_less_than_their_mean_are_a_sign_after_20_updates() {
    let run = |n: usize| codes((0..n).map(|_| (rollout(1.0, 20.0), well(), Some(-0.2))));
    assert!(run(19).is_empty());
    assert_eq!(run(20), ["values-poor"]);
}
