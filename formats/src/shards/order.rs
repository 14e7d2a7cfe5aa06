//! The order in which documents are visited.
//!
//! Purpose: a permutation of the numbers below n, keyed by seed and epoch, of which any place is known without the others.
//! Invariants: each number comes exactly once; the same key gives the same order on every machine.
//! Must not know: what the numbers count.
//!
//! The permutation is a Feistel network over the smallest even number of bits that holds n; a number beyond n is sent through
//! it again until it is below (cycle walking), which takes fewer than four rounds on the average.

/// Rounds of the network; four make a random permutation in theory, the others are for the weak function between.
const ROUNDS: usize = 8;

/// An order of the numbers below n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    count: u64,
    /// Bits of half a number; none where the order is the natural one.
    half: Option<u32>,
    keys: [u64; ROUNDS],
}

impl Order {
    /// The numbers below `count`, shuffled by seed and epoch.
    pub fn shuffled(seed: u64, epoch: u64, count: u64) -> Self {
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        let mut state = mix(mix(seed) ^ epoch.wrapping_mul(GOLDEN));
        let keys = std::array::from_fn(|_| {
            state = state.wrapping_add(GOLDEN);
            mix(state)
        });
        Self { count, half: Some(bits.div_ceil(2).max(1)), keys }
    }

    /// The numbers below `count`, as they are.
    pub fn natural(count: u64) -> Self {
        Self { count, half: None, keys: [0; ROUNDS] }
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number at a place; none beyond the last.
    pub fn at(&self, place: u64) -> Option<u64> {
        let half = match self.half {
            _ if place >= self.count => return None,
            None => return Some(place),
            Some(half) => half,
        };
        // Every cycle of the network leads back to where it began, which is below the count, so this ends.
        let mut number = self.network(place, half);
        while number >= self.count {
            number = self.network(number, half);
        }
        Some(number)
    }

    fn network(&self, number: u64, half: u32) -> u64 {
        let mask = (1_u64 << half) - 1;
        let (mut left, mut right) = (number >> half & mask, number & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << half | right
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The last steps of SplitMix64: every bit of the number reaches every other.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
