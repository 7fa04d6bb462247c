//! The second reading of responses, by whole strings, as [`super::naive`] reads requests.

use super::naive::{ChunksEnd, is_field_byte, list, read_chunks, read_field, read_framing, split_lines, trim};
use crate::http::{BodyFraming, HeadLimits, RequestKind, ResponseFraming, Version};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// What a response head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NaiveResponse {
    pub(super) len: usize,
    pub(super) version: Version,
    pub(super) code: u16,
    pub(super) reason: Vec<u8>,
    /// Names and trimmed values.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) framing: ResponseFraming,
    pub(super) content_length: Option<u64>,
    pub(super) persistent: bool,
    pub(super) upgrade: bool,
    pub(super) has_date: bool,
    pub(super) has_server: bool,
}

/// One response with its body, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NaiveMessage {
    pub(super) head: NaiveResponse,
    pub(super) body: Vec<u8>,
    /// Lines of trailers that may be passed on.
    pub(super) trailers: Vec<u8>,
}

/// How a stream of responses ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// What follows is not a head, or not a whole one.
    NoHead,
    /// A body has not ended.
    BodyOpen,
    /// A chunked body is malformed.
    BodyBad,
    /// Nothing can follow the response that ends after so many bytes.
    Last(usize),
}

/// Reads the head at the start of `data`.
pub(super) fn read_response_head(data: &[u8], limits: &HeadLimits, kind: RequestKind) -> Option<NaiveResponse> {
    let window = &data[..data.len().min(limits.head).min(HEAD_BYTES_MAX)];
    let end = window.windows(4).position(|four| four == b"\r\n\r\n")?;
    let lines = split_lines(&window[..end]);
    let is_many = lines.len() - 1 > limits.headers.min(HEADERS_MAX);
    if is_many || lines.iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n')) {
        return None;
    }
    let (version, rest) = match (lines[0].strip_prefix(b"HTTP/1.1 "), lines[0].strip_prefix(b"HTTP/1.0 ")) {
        (Some(rest), _) => (Version::Http11, rest),
        (_, Some(rest)) => (Version::Http10, rest),
        _ => return None,
    };
    let (digits, reason) = rest.split_at_checked(3)?;
    let is_reason = reason.is_empty() || reason.starts_with(b" ");
    if !digits.iter().all(u8::is_ascii_digit) || !is_reason || !reason.iter().all(|b| is_field_byte(*b)) {
        return None;
    }
    let code: u16 = str::from_utf8(digits).ok()?.parse().ok().filter(|code| *code >= 100)?;
    let fields = lines[1..].iter().map(|line| read_field(line)).collect::<Option<Vec<_>>>()?;
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice()).collect()
    };
    let announced = read_framing(version, &values("transfer-encoding"), &values("content-length"))?;
    let announces = !matches!(announced, BodyFraming::None | BodyFraming::Length(0));
    if code < 200 && announces {
        return None;
    }
    let is_bodiless = code < 200 || code == 204 || code == 304 || kind == RequestKind::Head;
    let framing = match announced {
        _ if is_bodiless => ResponseFraming::None,
        BodyFraming::None => ResponseFraming::UntilClose,
        BodyFraming::Length(n) => ResponseFraming::Length(n),
        BodyFraming::Chunked => ResponseFraming::Chunked,
    };
    let options: Vec<String> = values("connection").iter().flat_map(|value| list(value)).collect();
    let has = |option: &str| options.iter().any(|own| own == option);
    let stays = !has("close") && (version == Version::Http11 || has("keep-alive"));
    Some(NaiveResponse {
        len: end + 4,
        version,
        code,
        reason: trim(reason).to_vec(),
        framing,
        content_length: match announced {
            BodyFraming::Length(n) if code >= 200 && code != 204 => Some(n),
            _ => None,
        },
        persistent: stays && framing != ResponseFraming::UntilClose && !(code == 204 && announces),
        upgrade: version == Version::Http11 && has("upgrade") && !values("upgrade").is_empty(),
        has_date: !values("date").is_empty(),
        has_server: !values("server").is_empty(),
        fields,
    })
}

/// Reads responses one behind the other. `kind` is what the first answers; those behind it answer [`RequestKind::Other`].
pub(super) fn read_responses(
    data: &[u8],
    limits: &HeadLimits,
    mut kind: RequestKind,
) -> (Vec<NaiveMessage>, StreamEnd) {
    let (mut messages, mut at) = (Vec::new(), 0);
    loop {
        let Some(head) = read_response_head(&data[at..], limits, kind) else { return (messages, StreamEnd::NoHead) };
        at += head.len;
        let rest = &data[at..];
        let (code, persistent) = (head.code, head.persistent);
        let (body, trailers, end) = read_body(rest, &head);
        messages.push(NaiveMessage { head, body, trailers });
        match end {
            Ok(len) => at += len,
            Err(end) => return (messages, end),
        }
        if code == 101 || (code >= 200 && !persistent) {
            return (messages, StreamEnd::Last(at));
        }
        if code >= 200 {
            kind = RequestKind::Other;
        }
    }
}

/// The body and its trailers, with its length as it was sent.
fn read_body(rest: &[u8], head: &NaiveResponse) -> (Vec<u8>, Vec<u8>, Result<usize, StreamEnd>) {
    match head.framing {
        ResponseFraming::None => (Vec::new(), Vec::new(), Ok(0)),
        ResponseFraming::UntilClose => (rest.to_vec(), Vec::new(), Err(StreamEnd::BodyOpen)),
        ResponseFraming::Length(n) => match usize::try_from(n).ok().filter(|n| *n <= rest.len()) {
            Some(n) => (rest[..n].to_vec(), Vec::new(), Ok(n)),
            None => (rest.to_vec(), Vec::new(), Err(StreamEnd::BodyOpen)),
        },
        ResponseFraming::Chunked => {
            let (body, end) = read_chunks(rest);
            match end {
                ChunksEnd::NeedMore => (body, Vec::new(), Err(StreamEnd::BodyOpen)),
                ChunksEnd::Bad => (body, Vec::new(), Err(StreamEnd::BodyBad)),
                ChunksEnd::Done(len) => (body, keep_trailers(&rest[..len], head), Ok(len)),
            }
        }
    }
}

/// The lines of a good chunked body's trailers that may be passed on.
fn keep_trailers(mut body: &[u8], head: &NaiveResponse) -> Vec<u8> {
    let named: Vec<String> = head
        .fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
        .flat_map(|(_, value)| list(value))
        .collect();
    loop {
        let line = split_lines(body)[0];
        body = &body[line.len() + 2..];
        let digits: String = line.iter().take_while(|b| b.is_ascii_hexdigit()).map(|b| *b as char).collect();
        let size = usize::from_str_radix(&digits, 16).expect("a size of a good body");
        if size == 0 {
            break;
        }
        body = &body[size + 2..];
    }
    let mut kept = Vec::new();
    for line in split_lines(body) {
        let Some((name, value)) = read_field(line) else { continue };
        let lower = name.to_ascii_lowercase();
        if is_trailer(&lower) && !named.contains(&lower) {
            kept.extend_from_slice(&[name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
    }
    kept
}

/// Whether a name, in lower case, may be that of a trailer which is passed on.
fn is_trailer(name: &str) -> bool {
    const HEAD_ONLY: &str = " age allow alt-svc authentication-info authorization cache-control clear-site-data connection \
        cookie cookie2 date expect expires forwarded host http2-settings keep-alive last-modified location max-forwards \
        origin pragma prefer range referer refresh retry-after server set-cookie set-cookie2 strict-transport-security te \
        trailer transfer-encoding upgrade user-agent vary via warning www-authenticate x-content-type-options \
        x-frame-options x-http-method-override x-real-ip ";
    const FAMILIES: [&str; 7] = ["accept", "access-control-", "content-", "if-", "proxy-", "sec-", "x-forwarded-"];
    let is_of_family = name != "content-digest" && FAMILIES.iter().any(|family| name.starts_with(family));
    !is_of_family && !HEAD_ONLY.contains(&format!(" {name} "))
}
