//! Values that are written with a unit, and addresses: `"10s"`, `"64KiB"`, `"127.0.0.1:8080"`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use schemars::json_schema;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serializer};

/// What a text of one of these types is and is not, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// What should have been there.
    pub expected: &'static str,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for UnitError {}

/// A span of time, `"500ms"`, `"10s"`, `"5m"`, `"1h"`: a whole number and one unit, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(Duration);

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// What `expected` says of a span of time.
pub(crate) const TIME_SPAN: &str = "a duration such as \"10s\" (a whole number and one of ms, s, m, h)";

impl TimeSpan {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// As the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for TimeSpan {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let millis = parse_number_unit(text, &TIME_UNITS);
        millis.map(Self::from_millis).ok_or_else(|| UnitError { expected: TIME_SPAN, suggestion: mend_time(text) })
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        // Zero is a multiple of every unit; seconds read best.
        let fits = |(_, factor): &&(&str, u64)| millis != 0 && millis.is_multiple_of(u128::from(*factor));
        let (unit, factor) = TIME_UNITS.iter().find(fits).unwrap_or(&("s", 1000));
        write!(f, "{}{unit}", millis / u128::from(*factor))
    }
}

/// A number of bytes, `"64KiB"`, or plainly `65536`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// What `expected` says of a size.
pub(crate) const BYTE_SIZE: &str =
    "a size such as \"64KiB\" (a whole number and one of B, KiB, MiB, GiB, TiB) or bytes";

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bytes = parse_number_unit(text, &SIZE_UNITS).or_else(|| parse_digits(text));
        bytes.map(Self).ok_or_else(|| UnitError { expected: BYTE_SIZE, suggestion: mend_size(text) })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*factor);
        let (unit, factor) = SIZE_UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// An address to listen on: an IP address and a port, `"0.0.0.0:8080"`, `"[::1]:8080"`. Port 0 lets the kernel choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(SocketAddr);

/// What `expected` says of an address.
pub(crate) const ADDRESS: &str = "an IP address and a port such as \"0.0.0.0:8080\" or \"[::]:8080\"";

impl Address {
    /// An address.
    pub const fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// As the standard library has it.
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Address {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.parse().map(Self).map_err(|_| UnitError { expected: ADDRESS, suggestion: mend_address(text) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digits and one of these units, nothing else.
fn parse_number_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    parse_digits(number)?.checked_mul(*factor)
}

/// `u64::from_str` would take a sign.
fn parse_digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `text` as digits and lower-case letters, without the space between.
fn take_apart(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, text[digits..].trim().to_lowercase()))
}

fn mend_time(text: &str) -> Option<String> {
    let (number, unit) = take_apart(text)?;
    let unit = match unit.as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "msec" | "milli" | "millis" => "ms",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hour" | "hours" => "h",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

fn mend_size(text: &str) -> Option<String> {
    let (number, unit) = take_apart(text)?;
    let unit = match unit.as_str() {
        "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "ki" | "kib" => "KiB",
        "m" | "mb" | "mi" | "mib" => "MiB",
        "g" | "gb" | "gi" | "gib" => "GiB",
        "t" | "tb" | "ti" | "tib" => "TiB",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

fn mend_address(text: &str) -> Option<String> {
    let text = text.trim();
    let port_of = |port: &str| port.parse::<u16>().ok();
    let bare = text.strip_prefix("*:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    if let Some(port) = port_of(bare) {
        return Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).to_string());
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(port_of) {
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string());
    }
    if let Some((address, port)) = text.rsplit_once(':')
        && let (Ok(address @ IpAddr::V6(_)), Some(port)) = (address.parse::<IpAddr>(), port_of(port))
        && text.parse::<IpAddr>().is_err()
    {
        return Some(SocketAddr::from((address, port)).to_string());
    }
    let address = text.trim_matches(['[', ']']).parse::<IpAddr>().ok()?;
    Some(SocketAddr::from((address, 8080)).to_string())
}

/// `#[serde(with)]` for a [`Duration`] that is written as a [`TimeSpan`].
pub(crate) mod as_time_span {
    use super::{Deserialize, Deserializer, Duration, Serializer, TimeSpan};

    pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&TimeSpan(*span))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        TimeSpan::deserialize(deserializer).map(TimeSpan::get)
    }
}

/// `#[serde(with)]` for an integer that is written as a [`ByteSize`].
pub(crate) mod as_byte_size {
    use super::{ByteSize, Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<N, S>(bytes: &N, serializer: S) -> Result<S::Ok, S::Error>
    where
        N: Copy + TryInto<u64>,
        S: Serializer,
    {
        serializer.collect_str(&ByteSize((*bytes).try_into().unwrap_or(u64::MAX)))
    }

    pub(crate) fn deserialize<'de, N, D>(deserializer: D) -> Result<N, D::Error>
    where
        N: TryFrom<u64>,
        D: Deserializer<'de>,
    {
        let bytes = ByteSize::deserialize(deserializer)?.get();
        N::try_from(bytes).map_err(|_| de::Error::custom("expected fewer bytes"))
    }
}

/// `#[serde(with)]` for an address that may be `"off"`.
pub(crate) mod as_address_or_off {
    use super::{Deserialize, Deserializer, Serializer, SocketAddr, de};

    pub(crate) fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str("off"),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "off" => Ok(None),
            text => text.parse::<super::Address>().map(|address| Some(address.get())).map_err(de::Error::custom),
        }
    }
}

/// Reads one of these types from text; a size or a status from a number too.
pub(crate) struct Reader<T>(pub(crate) std::marker::PhantomData<T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text with a unit")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

/// `Deserialize`, `Serialize` and `JsonSchema` of types that are written as text: what `FromStr` and `Display` say.
macro_rules! in_text {
    ($($name:ident: $schema:expr;)*) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(crate::units::Reader(std::marker::PhantomData))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    )*};
}
pub(crate) use in_text;

// `x-unit` names the parser that the loader runs; `pattern` says nearly the same to other readers of the schema.
in_text! {
    TimeSpan: json_schema!({ "type": "string", "x-unit": "duration", "pattern": "^[0-9]+(ms|s|m|h)$" });
    ByteSize: json_schema!({
        "type": ["string", "integer"], "x-unit": "size", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)?$"
    });
    Address: json_schema!({ "type": "string", "x-unit": "address" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_time_is_a_number_and_a_unit() {
        for (text, millis) in [("0s", 0), ("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(TimeSpan::from_millis(millis)));
            assert_eq!(TimeSpan::from_millis(millis).to_string(), text);
        }
        let mended = |text: &str| text.parse::<TimeSpan>().unwrap_err().suggestion;
        for (text, suggestion) in [("10", "10s"), ("10 s", "10s"), ("5min", "5m"), ("1H", "1h"), ("3 secs", "3s")] {
            assert_eq!(mended(text).as_deref(), Some(suggestion), "{text}");
        }
        for text in
            ["", "s", "-1s", "+1s", "1.5s", "1h30m", "1d", "1e3s", "99999999999999999999h", "18446744073709551615h"]
        {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_bytes_or_a_number_and_a_binary_unit() {
        for (text, bytes) in [("0B", 0), ("1B", 1), ("64KiB", 65_536), ("1MiB", 1 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)));
            assert_eq!(ByteSize::new(bytes).to_string(), text);
        }
        assert_eq!("65536".parse(), Ok(ByteSize::new(65_536)));
        let mended = |text: &str| text.parse::<ByteSize>().unwrap_err().suggestion;
        for (text, suggestion) in [("64KB", "64KiB"), ("64k", "64KiB"), ("1 MiB", "1MiB"), ("2g", "2GiB")] {
            assert_eq!(mended(text).as_deref(), Some(suggestion), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "many", "99999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_numeric_and_has_a_port() {
        let mended = |text: &str| text.parse::<Address>().unwrap_err().suggestion;
        for (text, suggestion) in [
            ("8080", "0.0.0.0:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:80", "0.0.0.0:80"),
            ("localhost:90", "127.0.0.1:90"),
            ("10.0.0.1", "10.0.0.1:8080"),
            ("::1", "[::1]:8080"),
        ] {
            assert_eq!(mended(text).as_deref(), Some(suggestion), "{text}");
        }
        assert_eq!(mended("example.com:80"), None);
        assert_eq!("[::1]:80".parse::<Address>().unwrap().to_string(), "[::1]:80");
    }
}
