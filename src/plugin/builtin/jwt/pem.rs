//! Public keys from PEM files (RFC 7468): `PUBLIC KEY`, and PKCS #1's `RSA PUBLIC KEY`. Of DER it knows what these need, and
//! takes no other encoding of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{Curve, Material};

/// What `expected` says where there is no such key.
const PUBLIC_KEY: &str = "one public key (BEGIN PUBLIC KEY): RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519";

/// The key in a PEM text.
///
/// # Errors
/// What was expected and what was found.
pub(super) fn read_pem(text: &[u8]) -> Result<Material, (String, String)> {
    let fail = |found: &str| (PUBLIC_KEY.to_owned(), found.to_owned());
    let text = str::from_utf8(text).map_err(|_| fail("bytes that are no text"))?;
    let (label, rest) = text
        .split_once("-----BEGIN ")
        .and_then(|(_, rest)| rest.split_once("-----"))
        .ok_or_else(|| fail("a text without one"))?;
    // A text that names something else is a slip worth naming; a file with a private key most of all.
    let is_known = matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY");
    if !is_known {
        let kind =
            if label.contains("PRIVATE") { "a private key, which does not belong here" } else { "something else" };
        return Err(fail(kind));
    }
    let (body, after) =
        rest.split_once(&format!("-----END {label}-----")).ok_or_else(|| fail("one without its end"))?;
    if after.contains("-----BEGIN") {
        return Err(fail("more than one"));
    }
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| fail("one whose base64 is broken"))?;
    let material = if label == "PUBLIC KEY" { read_spki(&der) } else { read_rsa(&der) };
    material.ok_or_else(|| fail("a key of another kind or size"))
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const NULL: u8 = 0x05;

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const PRIME_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const SECP_384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The content of the value at the start, which is of this tag; what follows it is left.
fn take<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (&[own, first], mut rest) = der.split_first_chunk::<2>()?;
    if own != tag {
        return None;
    }
    let length = match first {
        0..0x80 => usize::from(first),
        0x81 | 0x82 => {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            let length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
            // DER has the shortest form alone.
            let least = if first == 0x81 { 0x80 } else { 0x100 };
            (length >= least).then_some(length)?
        }
        // No key is this long.
        0x80 | 0x83.. => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *der = after;
    Some(content)
}

/// A value that is all there is.
fn take_only(mut der: &[u8], tag: u8) -> Option<&[u8]> {
    take(&mut der, tag).filter(|_| der.is_empty())
}

/// A positive number.
fn take_number<'d>(der: &mut &'d [u8]) -> Option<&'d [u8]> {
    let number = take(der, INTEGER)?;
    // X.690 section 8.3.2: no byte in front that says nothing.
    let is_shortest = !matches!(number, [0, next, ..] if next & 0x80 == 0);
    (number.first()? & 0x80 == 0 && is_shortest).then_some(number)
}

/// `SubjectPublicKeyInfo` (RFC 5280 section 4.1).
fn read_spki(der: &[u8]) -> Option<Material> {
    let mut info = take_only(der, SEQUENCE)?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    // A key is of whole bytes: no bit is unused.
    let key = take_only(info, BIT_STRING)?.strip_prefix(&[0])?;
    match take(&mut algorithm, OBJECT_ID)? {
        RSA_ENCRYPTION if take_only(algorithm, NULL)?.is_empty() => read_rsa(key),
        EC_PUBLIC_KEY => match take_only(algorithm, OBJECT_ID)? {
            PRIME_256 => Material::point(Curve::P256, key),
            SECP_384 => Material::point(Curve::P384, key),
            _ => None,
        },
        ED25519 if algorithm.is_empty() => Material::ed25519(key),
        _ => None,
    }
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn read_rsa(der: &[u8]) -> Option<Material> {
    let mut numbers = take_only(der, SEQUENCE)?;
    let modulus = take_number(&mut numbers)?;
    let exponent = take_number(&mut numbers)?;
    if numbers.is_empty() { Material::rsa(modulus, exponent) } else { None }
}
