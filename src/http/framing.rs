//! Where a body ends: one total function over the facts of two header fields for requests, and one for responses, which
//! adds the status and the request that was answered. What is faulty is faulty in both.

use super::error::FramingError;
use super::{Method, Status, StatusClass, Version};

/// How the end of a message body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body: the next byte belongs to the next message.
    #[default]
    None,
    /// Exactly this many bytes; zero when the peer said so.
    Length(u64),
    /// The chunked transfer coding (RFC 9112 section 7.1).
    Chunked,
}

impl BodyFraming {
    /// Whether at least one byte follows the head (a chunked body has at least its last chunk).
    pub fn has_body(self) -> bool {
        match self {
            BodyFraming::None | BodyFraming::Length(0) => false,
            BodyFraming::Length(_) | BodyFraming::Chunked => true,
        }
    }
}

/// How the end of a response's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is no body, whatever the fields say: the next byte belongs to the next response.
    #[default]
    None,
    /// Exactly this many bytes; zero when the upstream said so.
    Length(u64),
    /// The chunked transfer coding (RFC 9112 section 7.1).
    Chunked,
    /// All that comes until the connection ends. A body that was cut off looks whole (RFC 9112 section 8).
    UntilClose,
}

/// What a response answers, as far as its framing depends on it.
///
/// There is none for `CONNECT`: it is refused and goes to no upstream, so that no 2xx can begin a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// `HEAD`: the fields are those of `GET`, and there is no body.
    Head,
    /// Every other method.
    Other,
}

impl RequestKind {
    /// The kind of a request with this method; `None` for `CONNECT`.
    pub fn of(method: Method) -> Option<RequestKind> {
        match method {
            Method::Connect => None,
            Method::Head => Some(RequestKind::Head),
            Method::Get
            | Method::Post
            | Method::Put
            | Method::Delete
            | Method::Options
            | Method::Trace
            | Method::Patch
            | Method::Extension => Some(RequestKind::Other),
        }
    }
}

/// What the `Content-Length` fields of one head amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentLength {
    /// No such field.
    #[default]
    Absent,
    /// One field, `1*DIGIT`, in range.
    Valid(u64),
    /// One field whose value is not `1*DIGIT`, or exceeds `u64`.
    Malformed,
    /// More than one field. RFC 9110 section 8.6 lets a recipient fold identical values; refusing them is allowed too
    /// and leaves nothing to disagree about with whoever sits before or behind us.
    Repeated,
}

impl ContentLength {
    /// Adds one more field's value, already without surrounding white space.
    pub fn note(&mut self, value: &[u8]) {
        *self = match self {
            ContentLength::Absent => match parse_decimal(value) {
                Some(n) => ContentLength::Valid(n),
                None => ContentLength::Malformed,
            },
            _ => ContentLength::Repeated,
        };
    }
}

/// `1*DIGIT` that fits. `str::parse` would also take a leading `+`.
fn parse_decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |n, &b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// What the `Transfer-Encoding` fields of one head amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferEncoding {
    /// No such field.
    #[default]
    Absent,
    /// One field whose value is exactly `chunked`, in any case.
    Chunked,
    /// One field with anything else: other codings, lists, parameters, quotes, nothing.
    Other,
    /// More than one field.
    Repeated,
}

impl TransferEncoding {
    /// Adds one more field's value, already without surrounding white space.
    pub fn note(&mut self, value: &[u8]) {
        *self = match self {
            TransferEncoding::Absent if value.eq_ignore_ascii_case(b"chunked") => TransferEncoding::Chunked,
            TransferEncoding::Absent => TransferEncoding::Other,
            _ => TransferEncoding::Repeated,
        };
    }
}

/// Decides a request's framing (RFC 9112 section 6.3). Whatever two implementations could read differently is an error,
/// because the disagreement is what request smuggling is made of.
///
/// | version | `Transfer-Encoding` | `Content-Length` | result |
/// |---|---|---|---|
/// | any | absent | absent | [`BodyFraming::None`] |
/// | any | absent | one valid | [`BodyFraming::Length`] |
/// | any | absent | malformed | [`FramingError::LengthMalformed`] |
/// | any | absent | repeated | [`FramingError::LengthRepeated`] |
/// | 1.0 | any but absent | any | [`FramingError::EncodingInHttp10`] (section 6.1: "faulty framing") |
/// | 1.1 | any but absent | any but absent | [`FramingError::EncodingAndLength`] |
/// | 1.1 | exactly `chunked` | absent | [`BodyFraming::Chunked`] |
/// | 1.1 | other | absent | [`FramingError::EncodingUnsupported`] |
/// | 1.1 | repeated | absent | [`FramingError::EncodingRepeated`] |
///
/// # Errors
/// As in the table; each is answered with 400 and ends the connection.
pub fn decide_framing(
    version: Version,
    encoding: &TransferEncoding,
    length: &ContentLength,
) -> Result<BodyFraming, FramingError> {
    use {ContentLength as Cl, TransferEncoding as Te};
    match (version, encoding, length) {
        (_, Te::Absent, Cl::Absent) => Ok(BodyFraming::None),
        (_, Te::Absent, Cl::Valid(n)) => Ok(BodyFraming::Length(*n)),
        (_, Te::Absent, Cl::Malformed) => Err(FramingError::LengthMalformed),
        (_, Te::Absent, Cl::Repeated) => Err(FramingError::LengthRepeated),
        (Version::Http10, Te::Chunked | Te::Other | Te::Repeated, _) => Err(FramingError::EncodingInHttp10),
        (Version::Http11, Te::Chunked | Te::Other | Te::Repeated, Cl::Valid(_) | Cl::Malformed | Cl::Repeated) => {
            Err(FramingError::EncodingAndLength)
        }
        (Version::Http11, Te::Chunked, Cl::Absent) => Ok(BodyFraming::Chunked),
        (Version::Http11, Te::Other, Cl::Absent) => Err(FramingError::EncodingUnsupported),
        (Version::Http11, Te::Repeated, Cl::Absent) => Err(FramingError::EncodingRepeated),
    }
}

/// Decides a response's framing (RFC 9112 section 6.3). The rows are tried from above.
///
/// | status | answers | version | `Transfer-Encoding` | `Content-Length` | result |
/// |---|---|---|---|---|---|
/// | any | any | any | absent | malformed | [`FramingError::LengthMalformed`] |
/// | any | any | any | absent | repeated | [`FramingError::LengthRepeated`] |
/// | any | any | 1.0 | any but absent | any | [`FramingError::EncodingInHttp10`] |
/// | any | any | 1.1 | any but absent | any but absent | [`FramingError::EncodingAndLength`] |
/// | any | any | 1.1 | other | absent | [`FramingError::EncodingUnsupported`] |
/// | any | any | 1.1 | repeated | absent | [`FramingError::EncodingRepeated`] |
/// | 1xx | any | any | absent | absent, or 0 | [`ResponseFraming::None`] |
/// | 1xx | any | any | chunked | absent | [`FramingError::BodyInInterim`] |
/// | 1xx | any | any | absent | one valid, not 0 | [`FramingError::BodyInInterim`] |
/// | 204, 304 | any | any | absent, or chunked | absent, or one valid | [`ResponseFraming::None`] |
/// | any | `HEAD` | any | absent, or chunked | absent, or one valid | [`ResponseFraming::None`] |
/// | other | other | 1.1 | chunked | absent | [`ResponseFraming::Chunked`] |
/// | other | other | any | absent | one valid | [`ResponseFraming::Length`] |
/// | other | other | any | absent | absent | [`ResponseFraming::UntilClose`] |
///
/// - Faulty fields are refused where there is no body, too: the length of an answer to `HEAD`, and of a 304, is forwarded,
///   and an upstream that contradicts itself there does so elsewhere. Section 6.3 asks for 502 and a closed connection.
/// - A 1xx or 204 must not have either field (RFC 9110 section 8.6, RFC 9112 section 6.1), and who receives one that does
///   must not believe it (section 6.3, rule 1). `Content-Length: 0` is common and harmless. More is refused in a 1xx: the
///   body that it promises would be read as the final response. In a 204 it is ignored, for some servers mark every
///   response as chunked, but the connection ends with it ([`super::ResponseHead::persistent`]): the body may yet come.
///
/// # Errors
/// As in the table; the upstream is to blame, the client gets 502.
pub fn decide_response_framing(
    status: Status,
    request: RequestKind,
    version: Version,
    encoding: &TransferEncoding,
    length: &ContentLength,
) -> Result<ResponseFraming, FramingError> {
    let announced = decide_framing(version, encoding, length)?;
    let is_bodiless = status.is_bodiless() || request == RequestKind::Head;
    match announced {
        _ if status.class() == StatusClass::Informational && announced.has_body() => Err(FramingError::BodyInInterim),
        BodyFraming::None | BodyFraming::Length(_) | BodyFraming::Chunked if is_bodiless => Ok(ResponseFraming::None),
        BodyFraming::None => Ok(ResponseFraming::UntilClose),
        BodyFraming::Length(n) => Ok(ResponseFraming::Length(n)),
        BodyFraming::Chunked => Ok(ResponseFraming::Chunked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(values: &[&[u8]]) -> ContentLength {
        let mut fact = ContentLength::default();
        values.iter().for_each(|v| fact.note(v));
        fact
    }

    fn encoding(values: &[&[u8]]) -> TransferEncoding {
        let mut fact = TransferEncoding::default();
        values.iter().for_each(|v| fact.note(v));
        fact
    }

    #[test]
    fn content_length_takes_digits_that_fit_and_nothing_else() {
        assert_eq!(length(&[b"0"]), ContentLength::Valid(0));
        assert_eq!(length(&[b"0042"]), ContentLength::Valid(42));
        assert_eq!(length(&[b"18446744073709551615"]), ContentLength::Valid(u64::MAX));
        for bad in ["", " ", "+5", "-1", "5, 5", "5,5", "5 5", "0x5", "5.0", "18446744073709551616", "5\u{b}", "५"] {
            assert_eq!(length(&[bad.as_bytes()]), ContentLength::Malformed, "{bad:?}");
        }
    }

    #[test]
    fn repeated_lengths_are_refused_even_when_identical() {
        assert_eq!(length(&[b"5", b"5"]), ContentLength::Repeated);
        assert_eq!(length(&[b"5", b"6"]), ContentLength::Repeated);
        assert_eq!(length(&[b"x", b"6", b"6"]), ContentLength::Repeated);
    }

    #[test]
    fn transfer_encoding_is_exactly_one_chunked() {
        assert_eq!(encoding(&[b"chunked"]), TransferEncoding::Chunked);
        assert_eq!(encoding(&[b"CHUNKed"]), TransferEncoding::Chunked);
        for bad in
            ["", "gzip", "chunked, chunked", "gzip, chunked", "identity", "xchunked", "chunked;a=b", "\"chunked\""]
        {
            assert_eq!(encoding(&[bad.as_bytes()]), TransferEncoding::Other, "{bad:?}");
        }
        assert_eq!(encoding(&[b"chunked", b"chunked"]), TransferEncoding::Repeated);
    }

    #[test]
    fn framing_follows_its_truth_table() {
        use {ContentLength as Cl, FramingError as E, TransferEncoding as Te, Version::*};
        for version in [Http10, Http11] {
            assert_eq!(decide_framing(version, &Te::Absent, &Cl::Absent), Ok(BodyFraming::None));
            assert_eq!(decide_framing(version, &Te::Absent, &Cl::Valid(7)), Ok(BodyFraming::Length(7)));
            assert_eq!(decide_framing(version, &Te::Absent, &Cl::Malformed), Err(E::LengthMalformed));
            assert_eq!(decide_framing(version, &Te::Absent, &Cl::Repeated), Err(E::LengthRepeated));
        }
        for te in [Te::Chunked, Te::Other, Te::Repeated] {
            for cl in [Cl::Absent, Cl::Valid(0), Cl::Malformed, Cl::Repeated] {
                assert_eq!(decide_framing(Http10, &te, &cl), Err(E::EncodingInHttp10));
                if cl != Cl::Absent {
                    assert_eq!(decide_framing(Http11, &te, &cl), Err(E::EncodingAndLength));
                }
            }
        }
        assert_eq!(decide_framing(Http11, &Te::Chunked, &Cl::Absent), Ok(BodyFraming::Chunked));
        assert_eq!(decide_framing(Http11, &Te::Other, &Cl::Absent), Err(E::EncodingUnsupported));
        assert_eq!(decide_framing(Http11, &Te::Repeated, &Cl::Absent), Err(E::EncodingRepeated));
    }
    #[test]
    fn response_framing_follows_its_truth_table() {
        use {ContentLength as Cl, FramingError as E, ResponseFraming as F, TransferEncoding as Te, Version::*};
        let encodings = [Te::Absent, Te::Chunked, Te::Other, Te::Repeated];
        let lengths = [Cl::Absent, Cl::Valid(0), Cl::Valid(7), Cl::Malformed, Cl::Repeated];
        for code in 100..=999 {
            let status = Status::new(code).unwrap();
            for (kind, version) in
                [RequestKind::Head, RequestKind::Other].into_iter().flat_map(|kind| [(kind, Http10), (kind, Http11)])
            {
                for (te, cl) in encodings.iter().flat_map(|te| lengths.iter().map(move |cl| (te, cl))) {
                    let want = match (te, cl, code) {
                        (Te::Absent, Cl::Malformed, _) => Err(E::LengthMalformed),
                        (Te::Absent, Cl::Repeated, _) => Err(E::LengthRepeated),
                        (Te::Chunked | Te::Other | Te::Repeated, _, _) if version == Http10 => Err(E::EncodingInHttp10),
                        (Te::Chunked | Te::Other | Te::Repeated, Cl::Valid(_) | Cl::Malformed | Cl::Repeated, _) => {
                            Err(E::EncodingAndLength)
                        }
                        (Te::Other, _, _) => Err(E::EncodingUnsupported),
                        (Te::Repeated, _, _) => Err(E::EncodingRepeated),
                        (Te::Absent, Cl::Absent | Cl::Valid(0), 100..200) => Ok(F::None),
                        (_, _, 100..200) => Err(E::BodyInInterim),
                        (_, _, 204 | 304) => Ok(F::None),
                        _ if kind == RequestKind::Head => Ok(F::None),
                        (Te::Chunked, _, _) => Ok(F::Chunked),
                        (Te::Absent, Cl::Valid(n), _) => Ok(F::Length(*n)),
                        (Te::Absent, Cl::Absent, _) => Ok(F::UntilClose),
                    };
                    assert_eq!(
                        decide_response_framing(status, kind, version, te, cl),
                        want,
                        "{code} {kind:?} {version:?} {te:?} {cl:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_response_answers_connect() {
        assert_eq!(RequestKind::of(Method::Connect), None);
        for method in Method::ALL.into_iter().filter(|method| *method != Method::Connect) {
            let want = if method == Method::Head { RequestKind::Head } else { RequestKind::Other };
            assert_eq!(RequestKind::of(method), Some(want));
        }
    }
}
