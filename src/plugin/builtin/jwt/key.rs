//! Keys, each bound to the algorithms that are its type's: what a token says of itself never decides how a key is used
//! (RFC 8725 section 3.1).

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use ring::{hmac, signature};

macro_rules! algorithms {
    ($($name:ident $text:literal;)+) => {
        /// How a token is signed. `none` is not among them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::plugin::builtin) enum Algorithm {
            $(#[doc = $text] $name,)+
        }

        impl Algorithm {
            /// All of them.
            pub(super) const ALL: &[Self] = &[$(Self::$name),+];

            /// As `alg` has it (RFC 7518 section 3.1, RFC 8037).
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

algorithms! {
    Hs256 "HS256";
    Hs384 "HS384";
    Hs512 "HS512";
    Rs256 "RS256";
    Rs384 "RS384";
    Rs512 "RS512";
    Ps256 "PS256";
    Ps384 "PS384";
    Ps512 "PS512";
    Es256 "ES256";
    Es384 "ES384";
    EdDsa "EdDSA";
}

impl Algorithm {
    /// The one of this name; names are compared with regard to case (RFC 7515 section 4.1.1).
    pub(super) fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.name() == name)
    }
}

/// A curve of ECDSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

impl Curve {
    /// Bytes of a coordinate.
    pub(super) const fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// What a signature is verified with. Public keys, but for the secret, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Material {
    /// A secret that signer and verifier share.
    Secret(Vec<u8>),
    /// RSA: modulus and exponent, big-endian without zeros ahead.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// A point of a curve, uncompressed.
    Point(Curve, Vec<u8>),
    /// Ed25519.
    Ed25519([u8; 32]),
}

impl Material {
    /// An RSA key, when it is one of 2048 to 8192 bits.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let strip = |number: &[u8]| -> Vec<u8> { number.iter().copied().skip_while(|&byte| byte == 0).collect() };
        let (modulus, exponent) = (strip(modulus), strip(exponent));
        let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
        // An exponent of 1 would make every text its own signature; ring takes those of up to 33 bits.
        let is_odd = modulus.last()? & 1 == 1 && exponent.last()? & 1 == 1;
        let fits = (2048..=8192).contains(&bits) && exponent.len() <= 5 && exponent != [1];
        (is_odd && fits).then_some(Self::Rsa { modulus, exponent })
    }

    /// A point, when it is of the length of one.
    pub(super) fn point(curve: Curve, point: &[u8]) -> Option<Self> {
        let is_uncompressed = point.first() == Some(&4) && point.len() == 1 + 2 * curve.coordinate_bytes();
        is_uncompressed.then(|| Self::Point(curve, point.to_vec()))
    }

    /// A point of Ed25519, when it is none of those under which a signature is good for many messages, or for all: ring does
    /// not look (RFC 8032 section 8.5, RFC 8725 section 3.4).
    pub(super) fn ed25519(point: &[u8]) -> Option<Self> {
        let point: [u8; 32] = point.try_into().ok()?;
        // The highest bit is the sign of the other coordinate.
        let mut plain = point;
        plain[31] &= 0x7f;
        (!SMALL_ORDER.contains(&plain)).then_some(Self::Ed25519(point))
    }

    /// The algorithms that a key of this type may be used with. A secret must be as long as the hash (RFC 7518 section 3.2).
    pub(super) fn algorithms(&self) -> &'static [Algorithm] {
        use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Secret(secret) if secret.len() >= 64 => &[Hs256, Hs384, Hs512],
            Self::Secret(secret) if secret.len() >= 48 => &[Hs256, Hs384],
            Self::Secret(secret) if secret.len() >= SECRET_BYTES_MIN => &[Hs256],
            Self::Secret(_) => &[],
            Self::Rsa { .. } => &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
            Self::Point(Curve::P256, _) => &[Es256],
            Self::Point(Curve::P384, _) => &[Es384],
            Self::Ed25519(_) => &[EdDsa],
        }
    }
}

/// The coordinates of the eight points of a small order, and the two that name the same again beyond the field's prime. The
/// lowest byte is first.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    ends(0x01, 0x00, 0x00),
    ends(0xec, 0xff, 0x7f),
    ends(0xed, 0xff, 0x7f),
    ends(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// A number of which the bytes between the first and the last are all the same.
const fn ends(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// Bytes of the shortest secret: those of HS256's hash.
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// A key, as tokens name it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::plugin::builtin) struct Key {
    /// Its name. One without is tried for every token that it could have signed.
    pub(super) kid: Option<String>,
    /// The one algorithm that whoever published it wants it used with.
    pub(super) only: Option<Algorithm>,
    pub(super) material: Material,
}

impl Key {
    /// Whether it may be used with this algorithm.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.only.is_none_or(|only| only == algorithm) && self.material.algorithms().contains(&algorithm)
    }

    /// Whether a token that names this key may mean it.
    pub(super) fn is_named(&self, kid: Option<&str>) -> bool {
        match (&self.kid, kid) {
            (Some(own), Some(kid)) => own == kid,
            (None, _) | (_, None) => true,
        }
    }

    /// Whether the signature is this key's over these bytes.
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        match &self.material {
            Material::Secret(secret) => hmac_of(algorithm)
                .is_some_and(|kind| hmac::verify(&hmac::Key::new(kind, secret), signed, signature).is_ok()),
            Material::Rsa { modulus, exponent } => rsa_of(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, signed, signature).is_ok()
            }),
            Material::Point(curve, point) => {
                let kind: &'static dyn signature::VerificationAlgorithm = match curve {
                    Curve::P256 => &ECDSA_P256_SHA256_FIXED,
                    Curve::P384 => &ECDSA_P384_SHA384_FIXED,
                };
                UnparsedPublicKey::new(kind, point).verify(signed, signature).is_ok()
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
        }
    }
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => None,
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 => None,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}

fn rsa_of(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => None,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}
