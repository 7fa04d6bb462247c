//! A second reading of requests, by whole strings: split, compare, push and pop. It shares nothing with the parser but the
//! types of its results, and is held to RFC 9112 and RFC 3986 by being short enough to be read against them.

use std::net::Ipv6Addr;

use crate::http::{BodyFraming, EncodedSlash, HeadLimits, Version};
use crate::limits::{
    CHUNK_EXTENSIONS_BYTES_MAX, CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, HOST_BYTES_MAX, METHOD_BYTES_MAX,
    TRAILERS_BYTES_MAX, TRAILERS_MAX,
};

/// What a request head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NaiveHead {
    pub(super) len: usize,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: Version,
    /// Names and trimmed values.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) framing: BodyFraming,
    pub(super) persistent: bool,
    pub(super) expect_continue: bool,
    pub(super) upgrade: bool,
}

/// Why there is no head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// It is not whole, or not good.
    Refused,
    /// Its only fault is an expectation that nobody knows.
    Expectation,
}

/// Reads the head at the start of `data`.
pub(super) fn read_head(data: &[u8], limits: &HeadLimits, slash: EncodedSlash) -> Result<NaiveHead, NoHead> {
    let window = &data[..data.len().min(limits.head).min(HEAD_BYTES_MAX)];
    let (head, is_expectation_known) = read_window(window, limits, slash).ok_or(NoHead::Refused)?;
    if is_expectation_known { Ok(head) } else { Err(NoHead::Expectation) }
}

fn read_window(window: &[u8], limits: &HeadLimits, slash: EncodedSlash) -> Option<(NaiveHead, bool)> {
    let start = if window.starts_with(b"\r\n") { 2 } else { 0 };
    let end = start + window[start..].windows(4).position(|four| four == b"\r\n\r\n")?;
    let lines = split_lines(&window[start..end]);
    if lines.iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n')) || lines.len() - 1 > HEADERS_MAX {
        return None;
    }
    let request_line: Vec<&str> = str::from_utf8(lines[0]).ok()?.split(' ').collect();
    let [method, target, version] = request_line[..] else { return None };
    let is_method = !method.is_empty() && method.len() <= METHOD_BYTES_MAX && method.bytes().all(is_tchar);
    if !is_method || target.is_empty() || target.len() > limits.target || lines.len() - 1 > limits.headers {
        return None;
    }
    let version = match version {
        "HTTP/1.0" => Version::Http10,
        "HTTP/1.1" => Version::Http11,
        _ => return None,
    };
    let fields = lines[1..].iter().map(|line| read_field(line)).collect::<Option<Vec<_>>>()?;
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice()).collect()
    };
    let (path, query, named, default_port) = read_target(method, target, slash)?;
    let authority = read_authority(&values("host"), version, method, named, default_port)?;
    let framing = read_framing(version, &values("transfer-encoding"), &values("content-length"))?;
    let options: Vec<String> = values("connection").iter().flat_map(|value| list(value)).collect();
    let has = |option: &str| options.iter().any(|own| own == option);
    let expects = values("expect");
    let is_expected = !expects.is_empty() && version == Version::Http11;
    let is_known = !is_expected || expects.iter().all(|value| value.eq_ignore_ascii_case(b"100-continue"));
    let has_body = !matches!(framing, BodyFraming::None | BodyFraming::Length(0));
    let parsed = authority.as_deref().and_then(split_authority);
    let head = NaiveHead {
        len: end + 4,
        method: method.to_owned(),
        target: target.to_owned(),
        version,
        path,
        query,
        host: parsed.as_ref().map(|(host, _)| host.clone()),
        port: parsed.and_then(|(_, port)| port),
        authority,
        framing,
        persistent: !has("close") && (version == Version::Http11 || has("keep-alive")),
        expect_continue: is_expected && has_body,
        upgrade: version == Version::Http11 && has("upgrade") && !values("upgrade").is_empty(),
        fields,
    };
    Some((head, is_known))
}

pub(super) fn split_lines(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(at) = text.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&text[..at]);
        text = &text[at + 2..];
    }
    lines.push(text);
    lines
}

fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~".contains(&b)
}

pub(super) fn is_field_byte(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

pub(super) fn trim(value: &[u8]) -> &[u8] {
    let is_text = |b: &u8| *b != b' ' && *b != b'\t';
    match (value.iter().position(is_text), value.iter().rposition(is_text)) {
        (Some(first), Some(last)) => &value[first..=last],
        _ => b"",
    }
}

pub(super) fn read_field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    let is_good = !name.is_empty() && name.iter().all(|b| is_tchar(*b)) && value.iter().all(|b| is_field_byte(*b));
    is_good.then(|| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

/// The members of a list, in lower case.
pub(super) fn list(value: &[u8]) -> Vec<String> {
    value.split(|b| *b == b',').map(|member| String::from_utf8_lossy(trim(member)).to_ascii_lowercase()).collect()
}

/// Path, query, authority and the port that goes without saying.
type Target = (String, Option<String>, Option<String>, u16);

fn read_target(method: &str, target: &str, slash: EncodedSlash) -> Option<Target> {
    if method == "CONNECT" {
        return Some((String::new(), None, Some(target.to_owned()), 0));
    }
    if target == "*" {
        return (method == "OPTIONS").then(|| ("*".to_owned(), None, None, 0));
    }
    let lower = target.to_ascii_lowercase();
    let (authority, rest, port) = match (lower.strip_prefix("http://"), lower.strip_prefix("https://")) {
        _ if target.starts_with('/') => (None, target, 0),
        (None, None) => return None,
        (http, _) => {
            let rest = &target[if http.is_some() { 7 } else { 8 }..];
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(rest[..end].to_owned()), &rest[end..], if http.is_some() { 80 } else { 443 })
        }
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (rest, None),
    };
    if query.as_ref().is_some_and(|query| !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#')) {
        return None;
    }
    let path = match path {
        "" if method == "OPTIONS" && query.is_none() => "*".to_owned(),
        "" => "/".to_owned(),
        path => normalize(path, slash == EncodedSlash::Allow)?,
    };
    Some((path, query, authority, port))
}

/// The normal path: decode what is unreserved, then split, push and pop.
pub(super) fn normalize(raw: &str, is_slash_allowed: bool) -> Option<String> {
    let mut decoded = String::new();
    let mut bytes = raw.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                match u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()? {
                    0 => return None,
                    b'/' if !is_slash_allowed => return None,
                    byte if is_unreserved(byte) => decoded.push(byte as char),
                    byte => decoded.push_str(&format!("%{byte:02X}")),
                }
            }
            b'[' | b']' | b'^' | b'{' | b'|' | b'}' => decoded.push_str(&format!("%{b:02X}")),
            _ if is_unreserved(b) || b"!$&'()*+,;=:@/".contains(&b) => decoded.push(b as char),
            _ => return None,
        }
    }
    let mut stack: Vec<&str> = Vec::new();
    let mut is_directory = false;
    for segment in decoded.strip_prefix('/')?.split('/') {
        if segment.contains("%2F") && segment.split("%2F").any(|part| part == "." || part == "..") {
            return None;
        }
        is_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(stack.pop()?),
            other => stack.push(other),
        }
    }
    if is_directory {
        stack.push("");
    }
    Some(format!("/{}", stack.join("/")))
}

/// Host and port.
fn split_authority(text: &str) -> Option<(String, Option<u16>)> {
    let host_len = match text.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            rest[..end].parse::<Ipv6Addr>().ok()?;
            end + 2
        }
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_len);
    let is_name = host.bytes().all(|b| is_unreserved(b) || b"!$&'()*+;=".contains(&b));
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !(is_name || host.starts_with('[')) {
        return None;
    }
    let port = match port {
        "" | ":" => None,
        port => {
            let digits = port.strip_prefix(':')?;
            let is_number = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
            Some(digits.parse().ok().filter(|_| is_number)?)
        }
    };
    Some((host.to_owned(), port))
}

/// The authority that counts; the outer `None` where there is a mistake.
fn read_authority(
    hosts: &[&[u8]],
    version: Version,
    method: &str,
    named: Option<String>,
    default_port: u16,
) -> Option<Option<String>> {
    let host = match hosts {
        [] if version == Version::Http10 => None,
        [host] => Some(str::from_utf8(host).ok()?),
        _ => return None,
    };
    let from_host = match host {
        Some(host) => Some(split_authority(host)?),
        None => None,
    };
    let Some(named) = named else { return Some(host.map(str::to_owned)) };
    let (name, port) = split_authority(&named)?;
    if method == "CONNECT" && port.is_none() {
        return None;
    }
    let default_port = if method == "CONNECT" { port.unwrap_or(0) } else { default_port };
    let is_same = from_host.is_none_or(|(other, other_port)| {
        other.eq_ignore_ascii_case(&name) && other_port.unwrap_or(default_port) == port.unwrap_or(default_port)
    });
    is_same.then_some(Some(named))
}

pub(super) fn read_framing(version: Version, encodings: &[&[u8]], lengths: &[&[u8]]) -> Option<BodyFraming> {
    match (encodings, lengths) {
        ([], []) => Some(BodyFraming::None),
        ([], [length]) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(length).ok()?.parse().ok().filter(|_| is_number)?;
            Some(BodyFraming::Length(length))
        }
        ([coding], []) if version == Version::Http11 && coding.eq_ignore_ascii_case(b"chunked") => {
            Some(BodyFraming::Chunked)
        }
        _ => None,
    }
}

/// How a chunked body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunksEnd {
    /// After so many bytes.
    Done(usize),
    NeedMore,
    Bad,
}

/// What stands on a line, as far as it has come.
enum Line<'d> {
    Whole(&'d [u8]),
    Begun(&'d [u8]),
    Bad,
}

impl<'d> Line<'d> {
    fn read(rest: &'d [u8]) -> Self {
        match rest.iter().position(|b| *b == b'\r') {
            None => Self::Begun(rest),
            Some(at) => match rest.get(at + 1) {
                None => Self::Begun(&rest[..at]),
                Some(b'\n') => Self::Whole(&rest[..at]),
                Some(_) => Self::Bad,
            },
        }
    }
}

/// Reads a chunked body: its data as far as it came, and its end.
pub(super) fn read_chunks(data: &[u8]) -> (Vec<u8>, ChunksEnd) {
    let (mut body, mut at, mut extension_bytes) = (Vec::new(), 0, 0);
    loop {
        let (line, is_whole) = match Line::read(&data[at..]) {
            Line::Whole(line) => (line, true),
            Line::Begun(line) => (line, false),
            Line::Bad => return (body, ChunksEnd::Bad),
        };
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        extension_bytes += line.len() - digits;
        // An unfinished line with its CR has all that it needs but the LF.
        let ends = is_whole || at + line.len() < data.len();
        if !is_size_line(line, digits, ends) || extension_bytes > CHUNK_EXTENSIONS_BYTES_MAX {
            return (body, ChunksEnd::Bad);
        }
        if !is_whole {
            return (body, ChunksEnd::NeedMore);
        }
        at += line.len() + 2;
        let text: String = line[..digits].iter().map(|b| *b as char).collect();
        let size = u64::from_str_radix(&text, 16).unwrap_or(u64::MAX);
        if size == 0 {
            return (body, read_trailers(data, at));
        }
        let left = data.len() - at;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        body.extend_from_slice(&data[at..at + size.min(left)]);
        if size >= left {
            return (body, ChunksEnd::NeedMore);
        }
        at += size;
        match &data[at..] {
            [b'\r'] => return (body, ChunksEnd::NeedMore),
            [b'\r', b'\n', ..] => at += 2,
            _ => return (body, ChunksEnd::Bad),
        }
    }
}

/// Whether this may be a size line, or the beginning of one when it does not end here.
fn is_size_line(line: &[u8], digits: usize, ends: bool) -> bool {
    let significant = line[..digits].iter().skip_while(|b| **b == b'0').count();
    let is_size = (digits > 0 || (line.is_empty() && !ends)) && significant <= 16;
    let is_extension = match line[digits..].split_first() {
        None => true,
        Some((b';', rest)) => {
            let name = rest.iter().position(|b| *b != b' ' && *b != b'\t').map_or(&[][..], |at| &rest[at..]);
            let begins = name.first().map_or(!ends, |b| is_tchar(*b));
            begins && name.iter().all(|b| *b == b'\t' || (0x20..0x7f).contains(b))
        }
        Some(_) => false,
    };
    is_size && is_extension && line.len() <= CHUNK_LINE_BYTES_MAX
}

fn read_trailers(data: &[u8], from: usize) -> ChunksEnd {
    let (mut at, mut count) = (from, 0);
    loop {
        let (line, is_whole) = match Line::read(&data[at..]) {
            Line::Whole(line) => (line, true),
            Line::Begun(line) => (line, false),
            Line::Bad => return ChunksEnd::Bad,
        };
        if line.is_empty() {
            return if is_whole { ChunksEnd::Done(at + 2) } else { ChunksEnd::NeedMore };
        }
        let ends = is_whole || at + line.len() < data.len();
        count += 1;
        let name = line.iter().take_while(|b| is_tchar(**b)).count();
        let is_field = match line.get(name) {
            None => !ends,
            Some(b':') => name > 0 && line[name + 1..].iter().all(|b| is_field_byte(*b)),
            Some(_) => false,
        };
        // A line is counted with its end, as far as that has come.
        let counted = (data.len() - from).min(at - from + line.len() + 2);
        if !is_field || count > TRAILERS_MAX || counted > TRAILERS_BYTES_MAX {
            return ChunksEnd::Bad;
        }
        if !is_whole {
            return ChunksEnd::NeedMore;
        }
        at += line.len() + 2;
    }
}
