//! Hashes of passwords as files have them: bcrypt, and argon2id in the PHC string format. Others are too weak to be taken.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq;

use crate::limits::{ARGON2_KIB_MAX, ARGON2_LANES_MAX, ARGON2_PASSES_MAX, BCRYPT_COST_MAX};

/// What `expected` says of a line.
pub(super) const LINE: &str =
    "NAME:HASH with a hash of bcrypt ($2a$, $2b$, $2y$, of a cost of 4 to 16) or argon2id ($argon2id$v=19$)";

/// bcrypt's own base64, whose last character has bits that are of no account.
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Bytes of a password that bcrypt looks at, with the zero behind it.
const BCRYPT_BYTES_MAX: usize = 72;
/// Bytes of its result that are kept.
const BCRYPT_HASH_BYTES: usize = 23;

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Hash {
    Bcrypt { cost: u32, salt: [u8; 16], hash: [u8; BCRYPT_HASH_BYTES] },
    Argon2id { params: Params, salt: Vec<u8>, hash: Vec<u8> },
}

impl Hash {
    /// The hash of this text; `None` where it is none, is of another kind, or would take too much to compute.
    pub(super) fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('$')?;
        let (kind, rest) = rest.split_once('$')?;
        match kind {
            "2a" | "2b" | "2y" => Self::read_bcrypt(rest),
            "argon2id" => Self::read_argon2id(rest),
            _ => None,
        }
    }

    /// `COST$` and 22 characters of salt, 31 of the hash.
    fn read_bcrypt(text: &str) -> Option<Self> {
        let (cost, rest) = text.split_once('$')?;
        let cost = if cost.len() == 2 { digits(cost)? } else { return None };
        let (salt, hash) = rest.split_at_checked(22)?;
        let salt = BCRYPT_BASE64.decode(salt).ok()?.try_into().ok()?;
        let hash = BCRYPT_BASE64.decode(hash).ok()?.try_into().ok()?;
        (4..=BCRYPT_COST_MAX).contains(&cost).then_some(Self::Bcrypt { cost, salt, hash })
    }

    /// `v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH`.
    fn read_argon2id(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let (version, costs, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "v=19" || parts.next().is_some() {
            return None;
        }
        let mut costs = costs.split(',');
        let mut cost = |name: &str| digits(costs.next()?.strip_prefix(name)?);
        let (memory, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
        if costs.next().is_some() {
            return None;
        }
        let (salt, hash) = (STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(hash).ok()?);
        let fits = memory <= ARGON2_KIB_MAX && passes <= ARGON2_PASSES_MAX && lanes <= ARGON2_LANES_MAX;
        if !fits || !(8..=64).contains(&salt.len()) || !(16..=64).contains(&hash.len()) {
            return None;
        }
        let params = Params::new(memory, passes, lanes, Some(hash.len())).ok()?;
        Some(Self::Argon2id { params, salt, hash })
    }

    /// Whether it is that of this password. Takes tens of milliseconds: never on a worker's thread.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt { cost, salt, hash } => {
                // A text of C: it ends with a zero, and what is behind the bound is of no account.
                let mut text: Vec<u8> = password.iter().copied().take(BCRYPT_BYTES_MAX).collect();
                if text.len() < BCRYPT_BYTES_MAX {
                    text.push(0);
                }
                let found = bcrypt::bcrypt(*cost, *salt, &text);
                found[..BCRYPT_HASH_BYTES].ct_eq(hash).into()
            }
            Self::Argon2id { params, salt, hash } => {
                let mut found = vec![0; hash.len()];
                let mut memory = vec![Block::default(); params.block_count()];
                let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let result = hasher.hash_password_into_with_memory(password, salt, &mut found, &mut memory);
                result.is_ok() && bool::from(found.ct_eq(hash))
            }
        }
    }
}

/// Digits alone: `parse` would take a sign.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of jBCrypt's tests and of the reference implementation of Argon2.
    const KNOWN: [(&str, &str); 5] = [
        ("$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", ""),
        ("$2y$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", "a"),
        ("$2b$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i", "abc"),
        ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"),
        ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"),
    ];

    #[test]
    fn known_hashes_are_those_of_their_passwords_alone() {
        for (text, password) in KNOWN {
            let hash = Hash::read(text).expect(text);
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(format!("{password}x").as_bytes()), "{text}");
        }
    }

    #[test]
    fn hashes_that_are_weak_broken_or_too_dear_are_not_taken() {
        let (bcrypt, argon2) = (KNOWN[2].0, KNOWN[3].0);
        for bad in [
            "secret".to_owned(),
            "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(),
            "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/".to_owned(),
            "$6$salt$hash".to_owned(),
            String::new(),
            bcrypt.replace("$2b", "$2x"),
            bcrypt.replace("$06", "$03"),
            bcrypt.replace("$06", "$17"),
            bcrypt.replace("$06", "$6"),
            bcrypt[..bcrypt.len() - 1].to_owned(),
            format!("{bcrypt}a"),
            bcrypt.replace("If6", "If="),
            argon2.replace("argon2id", "argon2i"),
            argon2.replace("v=19", "v=16"),
            argon2.replace("m=256", "m=99999999"),
            argon2.replace("m=256", "m=1"),
            argon2.replace("t=2", "t=+2"),
            argon2.replace("t=2", "t=0"),
            argon2.replace("p=1", "p=1,x=1"),
            argon2.replace("c29tZXNhbHQ", "c29t"),
            format!("{argon2}$"),
        ] {
            assert!(Hash::read(&bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_as_a_hash(text in r"\$?(2[abxy]|argon2id|.{0,3})\$.{0,60}") {
            let _ = Hash::read(&text);
        }
    }
}
