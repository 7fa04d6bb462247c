//! What is known of one request, and the line that it becomes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::Field;
use super::escape::write_escaped;
use super::time::rfc3339;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object.
    Json,
    /// `name=value`, separated by spaces; what came from a client is in quotes and escaped as in JSON.
    Text,
}

/// What is known of one request. Texts are bytes as they came; they are escaped when they are written. What is `None` is left
/// out of the line.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The wall clock when it had been answered, since the Unix epoch.
    pub time: Duration,
    /// Its id.
    pub id: &'a [u8],
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The method.
    pub method: Option<&'a [u8]>,
    /// The path.
    pub path: Option<&'a [u8]>,
    /// The query.
    pub query: Option<&'a [u8]>,
    /// Host and port.
    pub host: Option<&'a [u8]>,
    /// The protocol's name and version.
    pub protocol: Option<&'static str>,
    /// The status.
    pub status: u16,
    /// Bytes read.
    pub request_bytes: u64,
    /// Bytes sent.
    pub response_bytes: u64,
    /// How long it took.
    pub duration: Duration,
    /// The route.
    pub route: Option<&'a [u8]>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`, as it came.
    pub referer: Option<&'a [u8]>,
    /// Of a request that was forwarded.
    pub forwarded: Option<Forwarded<'a>>,
    /// How it ended.
    pub termination: &'a str,
    /// The id of its trace.
    pub trace: Option<[u8; 16]>,
}

/// What is known of a forwarded request besides.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// The upstream's name.
    pub upstream: &'a [u8],
    /// The server's; `None` where none was available.
    pub server: Option<&'a [u8]>,
    /// Attempts.
    pub attempts: u32,
    /// To connect.
    pub connect: Option<Duration>,
    /// To the response's head.
    pub head: Option<Duration>,
    /// In all.
    pub total: Option<Duration>,
}

/// Appends the line of `record`, with its line end.
pub fn write_line(out: &mut Vec<u8>, form: Form, fields: &[Field], worker: usize, record: &Record<'_>) {
    if form == Form::Json {
        out.push(b'{');
    }
    let mut line = Line { out, form, is_first: true };
    for field in fields {
        line.field(*field, worker, record);
    }
    if form == Form::Json {
        out.push(b'}');
    }
    out.push(b'\n');
}

struct Line<'o> {
    out: &'o mut Vec<u8>,
    form: Form,
    is_first: bool,
}

impl Line<'_> {
    fn field(&mut self, field: Field, worker: usize, record: &Record<'_>) {
        let name = field.name();
        let forwarded = record.forwarded.as_ref();
        match field {
            Field::Time => self.word(name, &rfc3339(record.time)),
            Field::Id => self.word(name, record.id),
            Field::Peer => self.peer(name, record.peer),
            Field::Method => self.text(name, record.method),
            Field::Path => self.text(name, record.path),
            Field::Query => self.text(name, record.query),
            Field::Host => self.text(name, record.host),
            Field::Protocol => self.text(name, record.protocol.map(str::as_bytes)),
            Field::Status => self.number(name, Some(record.status.into())),
            Field::RequestBytes => self.number(name, Some(record.request_bytes)),
            Field::ResponseBytes => self.number(name, Some(record.response_bytes)),
            Field::DurationUs => self.micros(name, Some(record.duration)),
            Field::Route => self.text(name, record.route),
            Field::UserAgent => self.text(name, record.user_agent),
            Field::Referer => self.text(name, record.referer.map(without_secrets)),
            Field::Worker => self.number(name, Some(worker as u64)),
            Field::Upstream => self.text(name, forwarded.map(|forwarded| forwarded.upstream)),
            Field::Server => self.text(name, forwarded.and_then(|forwarded| forwarded.server)),
            Field::Attempts => self.number(name, forwarded.map(|forwarded| forwarded.attempts.into())),
            Field::UpstreamConnectUs => self.micros(name, forwarded.and_then(|forwarded| forwarded.connect)),
            Field::UpstreamHeadUs => self.micros(name, forwarded.and_then(|forwarded| forwarded.head)),
            Field::UpstreamUs => self.micros(name, forwarded.and_then(|forwarded| forwarded.total)),
            Field::Termination => self.word(name, record.termination.as_bytes()),
            Field::TraceId => {
                if let Some(trace) = record.trace {
                    self.word(name, &hex(trace));
                }
            }
        }
    }

    fn name(&mut self, name: &str) {
        let separator = if self.form == Form::Json { b',' } else { b' ' };
        if !std::mem::take(&mut self.is_first) {
            self.out.push(separator);
        }
        match self.form {
            Form::Json => {
                self.out.push(b'"');
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
            Form::Text => {
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'=');
            }
        }
    }

    /// A text that may be anything.
    fn text(&mut self, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.name(name);
        self.out.push(b'"');
        write_escaped(self.out, value);
        self.out.push(b'"');
    }

    /// A word of ours, which the text form writes without quotes.
    fn word(&mut self, name: &str, value: &[u8]) {
        if self.form == Form::Json {
            return self.text(name, Some(value));
        }
        self.name(name);
        write_escaped(self.out, value);
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn micros(&mut self, name: &str, value: Option<Duration>) {
        self.number(name, value.map(|value| value.as_micros() as u64));
    }

    fn peer(&mut self, name: &str, peer: SocketAddr) {
        self.name(name);
        let quote: &[u8] = if self.form == Form::Json { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        // Writing to a vector does not fail.
        let _ = write!(self.out, "{peer}");
        self.out.extend_from_slice(quote);
    }
}

fn hex(bytes: [u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (two, byte) in text.chunks_exact_mut(2).zip(bytes) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// A URI without its query and fragment, and none at all of one that names a user: each may be a secret.
fn without_secrets(uri: &[u8]) -> &[u8] {
    let end = uri.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(uri.len());
    let bare = &uri[..end];
    if bare.contains(&b'@') { b"" } else { bare }
}
