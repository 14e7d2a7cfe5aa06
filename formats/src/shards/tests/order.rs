//! Orders of documents.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::Order;

fn all(order: &Order) -> Vec<u64> {
    (0..order.count()).map(|place| order.at(place).unwrap()).collect()
}

proptest! {
    #[test]
    fn every_number_comes_exactly_once(seed: u64, epoch: u64, count in 0_u64..3000) {
        let order = Order::shuffled(seed, epoch, count);
        let mut numbers = all(&order);
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        prop_assert_eq!(order.at(count), None);
    }

    #[test]
    fn places_of_a_large_order_are_within_it_and_differ(seed: u64, count in 1_u64 << 32..1 << 56, place in 0_u64..1 << 32) {
        let order = Order::shuffled(seed, 3, count);
        let numbers: HashSet<u64> = (place..place + 50).filter_map(|place| order.at(place)).collect();
        prop_assert!(numbers.iter().all(|&number| number < count));
        prop_assert_eq!(numbers.len() as u64, 50.min(count.saturating_sub(place)));
    }
}

#[test]
fn another_seed_or_epoch_is_another_order_and_the_same_is_the_same() {
    let order = |seed, epoch| all(&Order::shuffled(seed, epoch, 1000));
    assert_eq!(order(1, 2), order(1, 2));
    for other in [order(2, 2), order(1, 3), order(2, 1), order(0, 0)] {
        assert_ne!(order(1, 2), other);
    }
    // Pinned, for a run that is resumed elsewhere must go on with the same rows.
    assert_eq!(all(&Order::shuffled(1, 0, 10)), PINNED);
    assert_eq!(all(&Order::natural(3)), [0, 1, 2]);
}

const PINNED: [u64; 10] = [5, 6, 8, 7, 3, 9, 0, 1, 2, 4];

#[test]
fn an_order_is_as_random_as_a_shuffle() {
    // Where each number goes, over many keys: every place is as likely as another, and neighbours part.
    const COUNT: usize = 12;
    const KEYS: usize = 24_000;
    let (mut places, mut together) = (vec![[0_u32; COUNT]; COUNT], 0_u32);
    for key in 0..KEYS as u64 {
        let numbers = all(&Order::shuffled(key / 50, key % 50, COUNT as u64));
        for (place, &number) in numbers.iter().enumerate() {
            places[number as usize][place] += 1;
        }
        together += numbers.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count() as u32;
    }
    let expected = KEYS as f64 / COUNT as f64;
    let square = |&seen: &u32| (f64::from(seen) - expected).powi(2) / expected;
    let chi_squared: f64 = places.iter().flatten().map(square).sum();
    // 121 degrees of freedom: the mean is 121 and the standard deviation 15.6.
    assert!((60.0..200.0).contains(&chi_squared), "{chi_squared}");
    // A neighbour follows in 11 of 12 places with a probability of 1 in 12.
    let mean = f64::from(together) / KEYS as f64;
    assert!((mean - 11.0 / 12.0).abs() < 0.03, "{mean}");
}
