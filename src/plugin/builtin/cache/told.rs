//! `Cache-Status` (RFC 9211): what the cache tells of a response.

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    /// From the store.
    Hit {
        /// Seconds for which it stays fresh; below zero: since when it is not.
        ttl: i64,
    },
    /// By whoever stands behind the cache.
    Forwarded {
        why: Forward,
        /// The status that came, where another was sent.
        status: Option<u16>,
        storing: Storing,
    },
    /// With 504: the client wanted nothing but a stored response.
    Refused,
}

/// Why a request was not answered from the store (section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forward {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Request,
    Stale,
}

impl Forward {
    const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// Whether the response is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storing {
    Not,
    /// When it has come whole.
    Yes {
        ttl: i64,
    },
}

/// The member of the list that tells of this cache, as long as fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    bytes: [u8; TEXT_BYTES],
    length: usize,
}

/// The longest name, and all parameters.
const TEXT_BYTES: usize = 160;

impl Text {
    /// Appends as much of it as there is room for, which is all: names have a bound.
    fn push(&mut self, part: &str) -> &mut Self {
        let rest = &mut self.bytes[self.length..];
        debug_assert!(part.len() <= rest.len(), "the longest name and all parameters fit");
        let length = part.len().min(rest.len());
        rest[..length].copy_from_slice(&part.as_bytes()[..length]);
        self.length += length;
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The member of the list for a cache of this name, which is a token (section 2).
pub(super) fn tell(name: &str, handling: Handling) -> Text {
    let mut text = Text { bytes: [0; TEXT_BYTES], length: 0 };
    text.push(name);
    match handling {
        Handling::Hit { ttl } => text.push("; hit; ttl=").push(itoa::Buffer::new().format(ttl)),
        Handling::Refused => text.push("; fwd=miss; detail=only-if-cached"),
        Handling::Forwarded { why, status, storing } => {
            text.push("; fwd=").push(why.name());
            if let Some(status) = status {
                text.push("; fwd-status=").push(itoa::Buffer::new().format(status));
            }
            match storing {
                Storing::Not => &mut text,
                Storing::Yes { ttl } => text.push("; stored; ttl=").push(itoa::Buffer::new().format(ttl)),
            }
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_read_as_the_rfc_has_them() {
        let stored = Storing::Yes { ttl: 5 };
        for (handling, expected) in [
            (Handling::Hit { ttl: 30 }, "edge; hit; ttl=30"),
            (Handling::Hit { ttl: -3 }, "edge; hit; ttl=-3"),
            (Handling::Refused, "edge; fwd=miss; detail=only-if-cached"),
            (
                Handling::Forwarded { why: Forward::UriMiss, status: None, storing: stored },
                "edge; fwd=uri-miss; stored; ttl=5",
            ),
            (
                Handling::Forwarded { why: Forward::Stale, status: Some(304), storing: stored },
                "edge; fwd=stale; fwd-status=304; stored; ttl=5",
            ),
            (Handling::Forwarded { why: Forward::Method, status: None, storing: Storing::Not }, "edge; fwd=method"),
        ] {
            assert_eq!(tell("edge", handling).as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn the_longest_text_fits() {
        let name = "n".repeat(64);
        let storing = Storing::Yes { ttl: i64::MIN };
        let longest = tell(&name, Handling::Forwarded { why: Forward::VaryMiss, status: Some(999), storing });
        assert!(longest.as_bytes().ends_with(b"ttl=-9223372036854775808"));
    }
}
