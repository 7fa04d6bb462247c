//! Counts responses in a stream of bytes, and refuses what is not the expected answer: status 200, a `Content-Length`,
//! and the body length that was asked for.

use std::ops::Range;

/// Bytes of a response head that are taken; more is an error of the server, or not HTTP.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How the only answer that counts begins; reason phrases differ.
const STATUS: &[u8] = b"HTTP/1.1 200";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What the bytes of a response head mean.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    /// With the empty line.
    length: usize,
    body_length: u64,
    /// Where the line of `Content-Length` lies, with its CRLF.
    length_line: Range<usize>,
}

/// A head that was read in full. Later heads that agree with it in status, length, the line of `Content-Length`
/// and the end are not read again: all that may differ is the text of fields such as `Date`.
#[derive(Clone, Debug)]
struct Shape {
    bytes: Vec<u8>,
    head: Head,
}

impl Shape {
    fn fits(&self, bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.get(..self.head.length) else { return false };
        let line = self.head.length_line.clone();
        bytes.starts_with(STATUS) && bytes[line.clone()] == self.bytes[line] && bytes.ends_with(HEAD_END)
    }
}

/// What all connections of a run share: the expectation, and the shape of the answers seen so far.
#[derive(Debug, Default)]
pub struct Expected {
    /// Bytes that each body must have; any, but all the same, where none is given.
    body_length: Option<u64>,
    shape: Option<Shape>,
}

impl Expected {
    /// With bodies of so many bytes, or of any length that the first answer has.
    pub fn new(body_length: Option<u64>) -> Self {
        Self { body_length, shape: None }
    }

    /// Bytes of one answer, head and body; `None` before the first.
    pub fn answer_length(&self) -> Option<u64> {
        self.shape.as_ref().map(|shape| shape.head.length as u64 + shape.head.body_length)
    }

    /// Bytes of one answer's head; `None` before the first.
    pub fn head_length(&self) -> Option<u64> {
        self.shape.as_ref().map(|shape| shape.head.length as u64)
    }

    /// The head that `bytes` begin with; `None` if it is not complete yet.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<Head>, String> {
        if let Some(shape) = self.shape.as_ref().filter(|shape| shape.fits(bytes)) {
            return Ok(Some(shape.head.clone()));
        }
        let Some(end) = find(bytes, HEAD_END) else {
            return match bytes.len() > HEAD_BYTES_MAX {
                true => Err(format!("expected a response head of at most {HEAD_BYTES_MAX} bytes, found no end of it")),
                false => Ok(None),
            };
        };
        let bytes = &bytes[..end + HEAD_END.len()];
        let head = read_head(bytes)?;
        let wanted = *self.body_length.get_or_insert(head.body_length);
        if head.body_length != wanted {
            return Err(format!("expected a body of {wanted} bytes, found Content-Length: {}", head.body_length));
        }
        self.shape = Some(Shape { bytes: bytes.to_vec(), head: head.clone() });
        Ok(Some(head))
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn first_line(bytes: &[u8]) -> String {
    let end = find(bytes, b"\r\n").unwrap_or(bytes.len()).min(80);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn read_head(bytes: &[u8]) -> Result<Head, String> {
    if !bytes.starts_with(STATUS) {
        return Err(format!("expected status 200, found {:?}", first_line(bytes)));
    }
    let mut found = None;
    let mut at = find(bytes, b"\r\n").unwrap_or(0) + 2;
    while let Some(end) = find(&bytes[at..], b"\r\n").filter(|end| *end > 0) {
        let line = &bytes[at..at + end];
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            let from = colon + 1 + line[colon + 1..].iter().take_while(|byte| **byte == b' ').count();
            let text = String::from_utf8_lossy(&line[from..]);
            let length = text.parse().map_err(|_| format!("expected a Content-Length in digits, found {text:?}"))?;
            found = Some((length, at..at + end + 2));
        }
        at += end + 2;
    }
    let (body_length, length_line) = found.ok_or("expected a Content-Length in the response head, found none")?;
    Ok(Head { length: bytes.len(), body_length, length_line })
}

/// Where one connection is in the stream of its answers.
#[derive(Debug, Default)]
pub struct Reader {
    /// The begin of a head whose end has not come yet.
    partial: Vec<u8>,
    /// Bytes of the current body that have not come yet.
    body_left: u64,
}

impl Reader {
    /// Whether the stream could end here.
    pub fn is_between_answers(&self) -> bool {
        self.partial.is_empty() && self.body_left == 0
    }

    /// Takes the next bytes of the stream and returns how many answers were completed by them.
    ///
    /// # Errors
    /// What was expected and what was found; the stream cannot be read on.
    pub fn take(&mut self, bytes: &[u8], expected: &mut Expected) -> Result<u64, String> {
        if self.partial.is_empty() {
            return self.take_rest(bytes, expected);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        self.take_rest(&joined, expected)
    }

    fn take_rest(&mut self, mut bytes: &[u8], expected: &mut Expected) -> Result<u64, String> {
        let mut complete = 0;
        while !bytes.is_empty() {
            if self.body_left == 0 {
                let Some(head) = expected.head(bytes)? else {
                    self.partial = bytes.to_vec();
                    break;
                };
                bytes = &bytes[head.length..];
                self.body_left = head.body_length;
            }
            let part = self.body_left.min(bytes.len() as u64);
            bytes = &bytes[part as usize..];
            self.body_left -= part;
            complete += u64::from(self.body_left == 0);
        }
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\nDate: Sat\r\n\r\nhello";

    fn count(stream: &[u8], piece: usize, expected: &mut Expected) -> Result<u64, String> {
        let mut reader = Reader::default();
        let mut complete = 0;
        for part in stream.chunks(piece) {
            complete += reader.take(part, expected)?;
        }
        assert!(reader.is_between_answers());
        Ok(complete)
    }

    #[test]
    fn answers_are_counted_however_the_stream_is_split() {
        let stream = ANSWER.repeat(7);
        for piece in 1..=stream.len() {
            let mut expected = Expected::default();
            assert_eq!(count(&stream, piece, &mut expected), Ok(7), "in pieces of {piece}");
            assert_eq!(expected.answer_length(), Some(ANSWER.len() as u64));
        }
    }

    #[test]
    fn answers_without_a_body_are_counted() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(3);
        assert_eq!(count(&stream, 1000, &mut Expected::default()), Ok(3));
        assert_eq!(count(&stream, 5, &mut Expected::default()), Ok(3));
    }

    #[test]
    fn another_head_of_the_same_meaning_is_read_again() {
        let other = b"HTTP/1.1 200 Fine\r\nContent-Length:5\r\n\r\nhello";
        let stream = [ANSWER, other, ANSWER].concat();
        assert_eq!(count(&stream, stream.len(), &mut Expected::default()), Ok(3));
    }

    #[test]
    fn another_status_is_an_error_at_first_and_after_good_answers() {
        let bad = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nhello";
        for stream in [bad.to_vec(), [ANSWER, bad].concat()] {
            let error = count(&stream, stream.len(), &mut Expected::default()).unwrap_err();
            assert_eq!(error, "expected status 200, found \"HTTP/1.1 503 Service Unavailable\"");
        }
    }

    #[test]
    fn another_length_is_an_error_even_if_the_digits_lie_where_they_did() {
        let other = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 4\r\nDate: Sat\r\n\r\nhell";
        let stream = [ANSWER, other].concat();
        let error = count(&stream, stream.len(), &mut Expected::default()).unwrap_err();
        assert_eq!(error, "expected a body of 5 bytes, found Content-Length: 4");
        let mut expected = Expected::new(Some(6));
        assert!(count(ANSWER, 100, &mut expected).unwrap_err().starts_with("expected a body of 6 bytes"));
    }

    #[test]
    fn head_without_a_length_or_without_an_end_is_an_error() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(count(chunked, 100, &mut Expected::default()).unwrap_err().contains("found none"));
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; HEAD_BYTES_MAX]].concat();
        assert!(Reader::default().take(&endless, &mut Expected::default()).unwrap_err().contains("no end"));
    }
}
