//! What a request must be answered, foretold from the client's bytes alone: what the strict parser makes of them as one
//! piece, and what each route of the application does. It shares no code with connections, handlers or the encoder.

use super::app;
use ringfort::clock;
use ringfort::http::{
    BodyFraming, ChunkStep, ChunkedDecoder, Head, HeadError, HeadLimits, Method, Parse, Status, Version, parse_head,
};
use ringfort::rt::sim;

/// Bytes of a request body that the simulated servers take.
pub(super) const BODY_MAX: u64 = 1 << 20;

/// A request as far as it has come.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    range: bool,
    pub(super) persistent: bool,
    pub(super) expects: bool,
    framing: BodyFraming,
    decoder: ChunkedDecoder,
    /// Its body so far.
    pub(super) body: Vec<u8>,
    /// Bytes of it, head and body, so far.
    pub(super) bytes: usize,
    /// It has come to its end.
    pub(super) is_whole: bool,
    /// Its body is malformed, for this reason.
    pub(super) malformed: Option<(Status, &'static str)>,
}

/// What is at the start of a client's bytes.
#[derive(Debug)]
pub(super) enum Look {
    /// Not a whole head.
    Partial,
    /// No acceptable head.
    Bad(HeadError),
    /// A request.
    Asked(Box<Asked>),
}

/// Looks at the client's bytes from the start of a request on.
pub(super) fn look(bytes: &[u8]) -> Look {
    let mut head = Head::new();
    match parse_head(bytes, &HeadLimits::default(), &mut head) {
        Ok(Parse::Partial) => Look::Partial,
        Err(error) => Look::Bad(error),
        Ok(Parse::Complete) => {
            let view = head.view(bytes);
            let mut asked = Asked {
                method: view.method(),
                path: view.path().to_owned(),
                range: bytes[..head.len].windows(7).any(|window| window == b"\nRange:"),
                persistent: head.persistent && view.version() == Version::Http11,
                expects: head.expect_continue,
                framing: view.framing(),
                decoder: ChunkedDecoder::new(),
                body: Vec::new(),
                bytes: head.len,
                is_whole: false,
                malformed: None,
            };
            asked.feed(bytes);
            Look::Asked(Box::new(asked))
        }
    }
}

impl Asked {
    /// Reads on in the client's bytes, which begin with this request.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        while !self.is_whole && self.malformed.is_none() {
            let rest = &bytes[self.bytes..];
            match self.framing {
                BodyFraming::None | BodyFraming::Length(0) => self.is_whole = true,
                BodyFraming::Length(length) => {
                    let count = rest.len().min(length as usize - self.body.len());
                    self.body.extend_from_slice(&rest[..count]);
                    self.bytes += count;
                    self.is_whole = self.body.len() as u64 == length;
                    return;
                }
                BodyFraming::Chunked => match self.decoder.decode(rest) {
                    Ok(ChunkStep::Data { skip, len }) => {
                        self.body.extend_from_slice(&rest[skip..skip + len]);
                        self.bytes += skip + len;
                    }
                    Ok(ChunkStep::NeedMore { consumed }) => {
                        self.bytes += consumed;
                        return;
                    }
                    Ok(ChunkStep::Done { consumed }) => {
                        self.bytes += consumed;
                        self.is_whole = true;
                    }
                    Err(error) => self.malformed = Some((error.status(), error.detail())),
                },
            }
        }
    }

    fn is_too_large(&self) -> bool {
        matches!(self.framing, BodyFraming::Length(length) if length > BODY_MAX)
    }

    /// The part of the path behind `prefix`.
    fn behind(&self, prefix: &str) -> Option<&str> {
        self.path.strip_prefix(prefix)
    }

    fn number(&self, prefix: &str) -> Option<usize> {
        self.behind(prefix)?.parse().ok()
    }

    /// Whether its answer may take its time though the client does its part.
    pub(super) fn takes_time(&self) -> bool {
        ["/slow/", "/files/", "/late-sum"].iter().any(|prefix| self.path.starts_with(prefix))
    }

    /// Whether its handler writes less than it announces, or may.
    pub(super) fn may_be_cut(&self) -> bool {
        ["/cut/", "/files/", "/panic-midway"].iter().any(|prefix| self.path.starts_with(prefix))
    }
}

/// How an answer's body is foretold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Foretold {
    /// There is none, and no length is given.
    Nothing,
    /// These bytes.
    Exactly(Vec<u8>),
    /// So many bytes are announced, of which these come at most, and then the connection ends.
    Cut(Vec<u8>, usize),
    /// The request's body, in chunks, as it comes.
    Echo,
    /// A problem with this detail.
    Problem(&'static str),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Field lines before the server's own.
    pub(super) fields: String,
    pub(super) body: Foretold,
    /// The connection must not go on behind it.
    pub(super) must_close: bool,
    /// It answers a whole request, or the error in one.
    pub(super) needs_whole: bool,
}

impl Answer {
    fn new(status: u16, fields: &str, body: Foretold) -> Self {
        Self { status, fields: fields.to_owned(), body, must_close: false, needs_whole: false }
    }

    fn text(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "Content-Type: text/plain; charset=utf-8\r\n", Foretold::Exactly(body.into()))
    }

    /// Field lines of a problem may stand behind `before`.
    pub(super) fn problem(status: u16, before: &str, detail: &'static str) -> Self {
        Self::new(status, &format!("{before}Content-Type: application/problem+json\r\n"), Foretold::Problem(detail))
    }

    pub(super) fn closing(self) -> Self {
        Self { must_close: true, ..self }
    }
}

/// The answer to what cannot be read as a request.
pub(super) fn refuse(error: HeadError) -> Answer {
    Answer::problem(error.status().code(), "", error.detail()).closing()
}

const BLAMELESS: &str = "the server failed to answer this request";

/// The answer to a request that came with this status, or why there is none such.
pub(super) fn foretell(asked: &Asked, status: u16) -> Result<Answer, String> {
    let closes = !asked.persistent;
    let mut answer = match status {
        413 if asked.is_too_large() => Answer::problem(413, "", "the request body is larger than allowed").closing(),
        408 if !asked.is_whole => Answer::problem(408, "", "the request body came too slowly").closing(),
        _ => route(asked, status)?,
    };
    answer.must_close |= closes;
    if answer.status != status {
        return Err(format!("{} {} is answered {status}, not {}", asked.method.as_str(), asked.path, answer.status));
    }
    Ok(answer)
}

fn route(asked: &Asked, status: u16) -> Result<Answer, String> {
    let is_get = matches!(asked.method, Method::Get | Method::Head);
    let get = |answer: Answer| match asked.method {
        Method::Get | Method::Head => answer,
        Method::Options => Answer::new(204, "Allow: GET, HEAD, OPTIONS\r\n", Foretold::Nothing),
        _ => Answer::problem(405, "Allow: GET, HEAD, OPTIONS\r\n", "this resource does not take this method"),
    };
    let blame = || Answer::problem(500, "", BLAMELESS);
    let answer = match &*asked.path {
        "/fixed" => get(Answer::text(app::FIXED)),
        "/panic" | "/panic-later" => blame().closing(),
        "/sum" | "/late-sum" => match asked.malformed {
            Some((status, detail)) => Answer::problem(status.code(), "", detail).closing(),
            None => Answer { needs_whole: true, ..Answer::text(app::sum_of(&asked.body)) },
        },
        "/ignore" => Answer { must_close: asked.expects, ..Answer::text(app::FIXED) },
        "/echo" => match asked.malformed {
            Some((code, detail)) if status == code.code() => Answer::problem(status, "", detail).closing(),
            _ => Answer::new(200, "", Foretold::Echo),
        },
        path if path.starts_with("/users/") => get(Answer::text(asked.behind("/users/").unwrap_or_default())),
        path if path.starts_with("/slow/") => {
            get(Answer::text(format!("after {} ms", asked.number("/slow/").unwrap_or_default())))
        }
        path if path.starts_with("/large/") => {
            let bytes = asked.number("/large/").unwrap_or_default();
            get(Answer::new(200, "", Foretold::Exactly(app::pattern(0..bytes))))
        }
        path if path.starts_with("/cut/") => {
            let bytes = asked.number("/cut/").unwrap_or_default();
            get(Answer::new(200, "", Foretold::Cut(app::pattern(0..bytes), bytes + 1)))
        }
        path if path.starts_with("/panic-midway/") => {
            let bytes = asked.number("/panic-midway/").unwrap_or_default();
            get(Answer::new(200, "", Foretold::Cut(app::pattern(0..bytes), bytes + 1)))
        }
        path if path.starts_with("/files/") && is_get => file(asked, status),
        _ => Answer::problem(404, "", "no route matches this path"),
    };
    Ok(answer)
}

/// A file's answer, or the disk's failure.
fn file(asked: &Asked, status: u16) -> Answer {
    if status == 500 {
        return Answer::problem(500, "", BLAMELESS);
    }
    let Some(metadata) = sim::file_metadata(asked.behind("/files/").unwrap_or_default()) else {
        return Answer::problem(404, "", "there is no such file");
    };
    let size = metadata.size as usize;
    let (status, start, length, mut fields) = match asked.range && asked.method == Method::Get && size > 10 {
        true => (206, 3, 7, format!("Content-Range: bytes 3-9/{size}\r\n")),
        false => (200, 0, size, String::new()),
    };
    let date = clock::format_date(metadata.modified);
    fields.push_str(&format!(
        "ETag: \"{size:x}-{:x}-{:x}\"\r\nLast-Modified: {}\r\nAccept-Ranges: bytes\r\nContent-Type: \
         text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n",
        metadata.modified.as_nanos(),
        metadata.inode,
        String::from_utf8_lossy(&date)
    ));
    Answer::new(status, &fields, Foretold::Exactly(app::pattern(start..start + length)))
}

/// The head as it must be, given what only the server knows: its date, and whether it closes.
pub(super) fn head(answer: &Answer, server: Option<&str>, date: &str, closes: bool, problem_bytes: usize) -> String {
    let reason = Status::new(answer.status).map_or("", Status::reason);
    let mut head = format!("HTTP/1.1 {} {reason}\r\n{}", answer.status, answer.fields);
    match &answer.body {
        Foretold::Nothing => {}
        Foretold::Exactly(body) => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
        Foretold::Cut(_, announced) => head.push_str(&format!("Content-Length: {announced}\r\n")),
        Foretold::Problem(_) => head.push_str(&format!("Content-Length: {problem_bytes}\r\n")),
        Foretold::Echo => head.push_str("Transfer-Encoding: chunked\r\n"),
    }
    if let Some(name) = server {
        head.push_str(&format!("Server: {name}\r\n"));
    }
    head.push_str(&format!("Date: {date}\r\n"));
    if closes {
        head.push_str("Connection: close\r\n");
    }
    head + "\r\n"
}

/// A problem's body (RFC 9457), but for the request's number behind it.
pub(super) fn problem(answer: &Answer, detail: &str) -> String {
    let reason = Status::new(answer.status).map_or("", Status::reason);
    format!(
        "{{\"type\":\"about:blank\",\"title\":\"{reason}\",\"status\":{},\"detail\":\"{detail}\",\"request_id\":\"",
        answer.status
    )
}
