//! The hash of a request's key.

use crate::proxy::chance::mix;

/// 2^64 divided by the golden ratio, odd: keeps words of zero from leaving the hash as it is.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a key, for [`super::Balancer::pick`]: the same in every process, on every machine and in every version, for
/// all gateways in front of an upstream must send a key to the same server.
///
/// Eight bytes at a time, little-endian, the rest filled with zeros, the length last; each word is spread over all bits
/// before the next is added. (One multiplication per word, as FxHash has it, is cheaper, but of 160,000 numbered names
/// 1,272 collided.) Not against an adversary: who chooses keys freely can choose them for one server, as with every hash
/// that is public.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| mix(hash.wrapping_add(STEP) ^ word);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(step(hash, u64::from_le_bytes(last)), bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_hash_never_changes() {
        // Computed by an implementation in another language. A change would send every key to another server.
        for (key, hash) in VECTORS {
            assert_eq!(hash_key(key.as_bytes()), *hash, "{key:?}");
        }
    }

    const VECTORS: &[(&str, u64)] = &[
        ("", 0xa706_dd2f_4d19_7e6f),
        ("a", 0xc503_7d9b_6eb8_da20),
        ("12345678", 0x3f01_f796_b4df_e63b),
        ("192.0.2.1", 0x031c_106c_1fc2_6b58),
        ("/users/42", 0xe6e8_c376_7d22_d460),
        ("a much longer key than one word", 0x7c9a_3acb_834a_781f),
    ];

    #[test]
    fn keys_that_look_alike_do_not_collide() {
        let mut seen = HashSet::new();
        for number in 0..20_000 {
            for text in
                [format!("{number}"), format!("user-{number}"), format!("{number:08}"), format!("/items/{number}/x")]
            {
                // Bytes of zero and length count too.
                for key in [text.clone(), format!("{text}\0")] {
                    seen.insert((key.clone(), hash_key(key.as_bytes())));
                }
            }
        }
        let hashes: HashSet<u64> = seen.iter().map(|(_, hash)| *hash).collect();
        assert_eq!(hashes.len(), seen.iter().map(|(key, _)| key).collect::<HashSet<_>>().len());
    }

    #[test]
    fn every_bit_of_a_key_turns_about_half_of_the_hash() {
        for length in [1, 4, 8, 13, 16, 40] {
            for bit in 0..length * 8 {
                let turned: u32 = (0..64_u8)
                    .map(|fill| {
                        let key: Vec<u8> = (0..length).map(|at| fill.wrapping_mul(31).wrapping_add(at as u8)).collect();
                        let mut other = key.clone();
                        other[bit / 8] ^= 1 << (bit % 8);
                        (hash_key(&key) ^ hash_key(&other)).count_ones()
                    })
                    .sum();
                let mean = f64::from(turned) / 64.0;
                assert!((28.0..36.0).contains(&mean), "bit {bit} of {length} bytes turns {mean}");
            }
        }
    }
}
