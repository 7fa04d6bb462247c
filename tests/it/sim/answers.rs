//! Reads what a server sends, strictly: every departure from a well-formed answer is an error.

/// One answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// It says `Connection: close`.
    pub(super) closes: bool,
    pub(super) body: Vec<u8>,
    /// The number that a server behind a gateway gave it.
    pub(super) mark: Option<u64>,
    /// Lines behind a chunked body.
    pub(super) trailers: Vec<String>,
}

/// A chunked body, where it ends, and its trailers.
type Chunked = (Vec<u8>, usize, Vec<String>);

/// The answers of one connection, as their bytes come.
#[derive(Debug, Default)]
pub(super) struct Answers {
    bytes: Vec<u8>,
    /// Of a chunked answer that is not whole: the body so far, and where its next chunk starts.
    chunked: Option<(Vec<u8>, usize)>,
}

impl Answers {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of an answer that is not whole.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes what is left, which is no answer: behind a 101 another protocol begins.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The next answer, if it is whole; one to HEAD has no body.
    pub(super) fn next(&mut self, is_head: bool) -> Result<Option<Answer>, String> {
        let Some(end) = find(&self.bytes, b"\r\n\r\n") else {
            return if self.bytes.len() > 4096 { Err("a head without an end".to_owned()) } else { Ok(None) };
        };
        let head = str::from_utf8(&self.bytes[..end]).map_err(|_| "a head that is not text".to_owned())?;
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status: u16 = status.and_then(|text| text.parse().ok()).ok_or(format!("status line {status_line:?}"))?;
        let (mut length, mut chunked, mut closes, mut dates, mut mark) = (None, false, false, 0, None);
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or(format!("field line {line:?}"))?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" if length.is_some() => return Err("two lengths".to_owned()),
                "content-length" => length = Some(value.parse::<usize>().map_err(|_| format!("length {value:?}"))?),
                "transfer-encoding" if value == "chunked" && !chunked => chunked = true,
                "transfer-encoding" => return Err(format!("coding {value:?}")),
                "connection" => closes |= value == "close",
                "date" => dates += 1,
                "x-answer" => mark = Some(value.parse().map_err(|_| format!("mark {value:?}"))?),
                _ => {}
            }
        }
        let is_interim = status / 100 == 1;
        if dates != usize::from(!is_interim) {
            return Err(format!("{dates} dates in {head:?}"));
        }
        let start = end + 4;
        let (body, used, trailers) = match (length, chunked) {
            _ if is_interim || is_head || matches!(status, 204 | 304) => (Vec::new(), start, Vec::new()),
            (Some(_), true) => return Err("length and chunks".to_owned()),
            (Some(length), false) => match self.bytes.get(start..start + length) {
                Some(body) => (body.to_vec(), start + length, Vec::new()),
                None => return Ok(None),
            },
            (None, true) => match self.next_chunks(start)? {
                Some(whole) => whole,
                None => return Ok(None),
            },
            (None, false) => return Err(format!("no framing in {head:?}")),
        };
        self.bytes.drain(..used);
        Ok(Some(Answer { status, closes, body, mark, trailers }))
    }

    /// Goes on with the chunks that start at `start`; the body, its end and its trailers when it is whole.
    fn next_chunks(&mut self, start: usize) -> Result<Option<Chunked>, String> {
        let (mut body, mut at) = self.chunked.take().unwrap_or((Vec::new(), start));
        while let Some((size, data_at)) = chunk_size(&self.bytes[at..])? {
            if size == 0 {
                // An empty line ends the trailers, and there may be none before it.
                let Some(end) = find(&self.bytes[at..], b"\r\n\r\n") else { break };
                let lines = str::from_utf8(&self.bytes[at..at + end]).map_err(|_| "trailers that are not text")?;
                let trailers = lines.split("\r\n").skip(1).map(str::to_owned).collect();
                return Ok(Some((body, at + end + 4, trailers)));
            }
            let Some(data) = self.bytes.get(at + data_at..at + data_at + size + 2) else { break };
            if !data.ends_with(b"\r\n") {
                return Err("a chunk without its end".to_owned());
            }
            body.extend_from_slice(&data[..size]);
            at += data_at + size + 2;
        }
        self.chunked = Some((body, at));
        Ok(None)
    }
}

/// The size of the chunk at the start of `bytes`, and where its data starts.
fn chunk_size(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let Some(line) = find(bytes, b"\r\n") else { return Ok(None) };
    let text = str::from_utf8(&bytes[..line]).unwrap_or("not text");
    let size = usize::from_str_radix(text, 16).map_err(|_| format!("chunk size {text:?}"))?;
    Ok(Some((size, line + 2)))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
