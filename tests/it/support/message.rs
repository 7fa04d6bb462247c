//! Responses, parsed strictly: what a careful client would refuse is an error here.

/// A response as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// How the end of a body is found.
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Response {
    /// The response at the start of `bytes`, after which the connection ended, and its length.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Response, usize), String> {
        parse(bytes, false, true)?.ok_or_else(|| "no whole response".to_owned())
    }

    /// The value of the one field of this name; panics when there are several.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} more than once: {self:?}");
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether it says that the connection ends after it.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }

    /// Without what differs from one answer to another: the date, and the request's number.
    pub(crate) fn without_noise(mut self) -> Self {
        self.fields.retain(|(name, _)| name != "Date");
        if self.field("content-type") == Some("application/problem+json") {
            let mut problem = self.json();
            problem["request_id"] = serde_json::Value::Null;
            self.body = problem.to_string().into_bytes();
        }
        self
    }
}

/// The response at the start of `bytes` and its length; `None` when more has to come.
pub(super) fn parse(bytes: &[u8], head_only: bool, at_end: bool) -> Result<Option<(Response, usize)>, String> {
    let Some(head_len) = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_len - 4]).map_err(|error| error.to_string())?;
    let mut lines = head.split("\r\n");
    let status = parse_status_line(lines.next().unwrap_or_default())?;
    let fields = lines.map(parse_field).collect::<Result<Vec<_>, _>>()?;
    let mut response = Response { status, fields, body: Vec::new() };
    let rest = &bytes[head_len..];
    let body_len = match find_framing(&response, head_only)? {
        Framing::None => Some(0),
        Framing::Length(length) => rest.get(..length).map(|body| {
            response.body = body.to_vec();
            length
        }),
        Framing::Chunked => parse_chunks(rest, &mut response.body)?,
        Framing::UntilClose => at_end.then(|| {
            response.body = rest.to_vec();
            rest.len()
        }),
    };
    Ok(body_len.map(|length| (response, head_len + length)))
}

fn parse_status_line(line: &str) -> Result<u16, String> {
    let wrong = || format!("status line {line:?}");
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(wrong)?;
    let (digits, reason) = rest.split_once(' ').ok_or_else(wrong)?;
    let printable = reason.bytes().all(|b| (b' '..=b'~').contains(&b));
    if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) || !printable {
        return Err(wrong());
    }
    digits.parse().map_err(|_| wrong())
}

fn parse_field(line: &str) -> Result<(String, String), String> {
    let wrong = || format!("field line {line:?}");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let value = value.strip_prefix(' ').ok_or_else(wrong)?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let visible = |b: u8| b == b' ' || b == b'\t' || (b'!'..=b'~').contains(&b);
    if name.is_empty() || !name.bytes().all(token) || !value.bytes().all(visible) || value.trim() != value {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The framing of a response (RFC 9112 section 6.3), and what every response has to have.
fn find_framing(response: &Response, head_only: bool) -> Result<Framing, String> {
    let Response { status, fields, .. } = response;
    let count = |wanted: &str| fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).count();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    let interim = *status < 200;
    if !interim && (count("date") != 1 || httpdate::parse_http_date(response.field("date").unwrap()).is_err()) {
        return Err(format!("no valid Date: {response:?}"));
    }
    if lengths + codings > 1 || count("connection") > 1 {
        return Err(format!("ambiguous: {response:?}"));
    }
    if interim || *status == 204 {
        // RFC 9112 section 6.1 and RFC 9110 section 8.6: these have neither field.
        return if lengths + codings == 0 { Ok(Framing::None) } else { Err(format!("framing: {response:?}")) };
    }
    if head_only || *status == 304 {
        return Ok(Framing::None);
    }
    if let Some(length) = response.field("content-length") {
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        return length.parse().ok().filter(|_| digits).map(Framing::Length).ok_or_else(|| format!("{response:?}"));
    }
    match response.field("transfer-encoding") {
        Some("chunked") => Ok(Framing::Chunked),
        Some(_) => Err(format!("transfer coding: {response:?}")),
        None if response.closes() => Ok(Framing::UntilClose),
        None => Err(format!("no framing: {response:?}")),
    }
}

/// Takes the chunks at the start of `bytes` apart; their length, or `None` when more has to come.
fn parse_chunks(bytes: &[u8], body: &mut Vec<u8>) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(line_len) = memchr::memmem::find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[at..at + line_len]).map_err(|error| error.to_string())?;
        let hex = line.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let size =
            usize::from_str_radix(line, 16).ok().filter(|_| hex).ok_or_else(|| format!("chunk size {line:?}"))?;
        at += line_len + 2;
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if &data[size..] != b"\r\n" {
            return Err("chunk data is not followed by CRLF".to_owned());
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some(at));
        }
    }
}
