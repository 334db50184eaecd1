//! Where incarnations come from.

use std::hash::{BuildHasher, RandomState};

use crate::stream::Incarnation;

/// A row of incarnations: distinct, and from the operating system's randomness unless seeded.
#[derive(Debug)]
pub(crate) struct Incarnations(u64);

impl Incarnations {
    /// A row that begins at `seed`, or anywhere. Who continues a seeded journal gives the number
    /// of commits so far as `salt`, so that no incarnation comes twice.
    pub(crate) fn new(seed: Option<u64>, salt: u64) -> Self {
        let start = seed.unwrap_or_else(|| RandomState::new().hash_one(salt));
        Self(start.wrapping_add(mix(salt)))
    }

    /// The next one. Never zero.
    pub(crate) fn next(&mut self) -> Incarnation {
        loop {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            if let mixed @ 1.. = mix(self.0) {
                return Incarnation(mixed);
            }
        }
    }
}

/// The output function of `SplitMix64`, a bijection.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
