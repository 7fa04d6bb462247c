//! Chance for decisions that need no secrecy: small, seeded, the same on every machine.

/// A seeded generator of numbers (splitmix64): one word of state, some two nanoseconds a number.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The generator of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 when that is 0. By multiplication: no division, and a bias of `bound` in 2^64 at most.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A number from 0 up to, and without, 1.
    pub const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Spreads each bit of a number over all others (the finalizer of splitmix64); no two numbers become one.
pub(super) const fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_numbers_of_splitmix64() {
        // From the reference implementation, seed 1234567.
        let mut chance = Chance::new(1_234_567);
        let numbers = [chance.next(), chance.next(), chance.next()];
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_below_it() {
        let mut chance = Chance::new(7);
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[chance.below(10) as usize] = true;
            assert!((0.0..1.0).contains(&chance.unit()));
        }
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.below(1), 0);
    }
}
