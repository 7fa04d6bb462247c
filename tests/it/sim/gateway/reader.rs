//! Reads requests, as a server does that trusts what the gateway sends.

use ringfort::rt::sim::Peer;

/// The reading side of a connection.
pub(super) struct Reader {
    pub(super) peer: Peer,
    /// What came and is not read yet.
    pub(super) bytes: Vec<u8>,
}

/// A request's head, as far as a server here cares.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) path: String,
    pub(super) is_head: bool,
    pub(super) length: Option<usize>,
    chunked: bool,
    /// It offers to switch protocols.
    pub(super) is_upgrade: bool,
    pub(super) takes_trailers: bool,
}

impl Heard {
    /// The request's number.
    pub(super) fn id(&self) -> Option<usize> {
        let number = self.path.strip_prefix("/p/").or_else(|| self.path.strip_prefix("/t/"));
        number.and_then(|id| id.parse().ok())
    }
}

impl Reader {
    /// `None` at the end.
    pub(super) async fn more(&mut self) -> Option<()> {
        let bytes = self.peer.recv(4096).await.ok().filter(|bytes| !bytes.is_empty())?;
        self.bytes.extend(bytes);
        Some(())
    }

    async fn line_end(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|window| window == end) {
                return Some(self.bytes.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < count {
            self.more().await?;
        }
        Some(self.bytes.drain(..count).collect())
    }

    pub(super) async fn head(&mut self) -> Option<Heard> {
        let head = String::from_utf8(self.line_end(b"\r\n\r\n").await?).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?, words.next()?.to_owned());
        let mut heard = Heard { path, is_head: method == "HEAD", ..Heard::default() };
        for line in lines {
            match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
                Some((name, value)) if name == "content-length" => heard.length = value.parse().ok(),
                Some((name, _)) if name == "transfer-encoding" => heard.chunked = true,
                Some((name, _)) if name == "upgrade" => heard.is_upgrade = true,
                Some((name, value)) if name == "te" => heard.takes_trailers = value == "trailers",
                _ => {}
            }
        }
        Some(heard)
    }

    /// The body, and the lines of its trailers.
    pub(super) async fn body(&mut self, heard: &Heard) -> Option<(Vec<u8>, Vec<String>)> {
        if !heard.chunked {
            return Some((self.take(heard.length.unwrap_or(0)).await?, Vec::new()));
        }
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.line_end(b"\r\n").await?).ok()?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            if size == 0 {
                break;
            }
            let chunk = self.take(size + 2).await?;
            body.extend_from_slice(&chunk[..size]);
        }
        let mut trailers = Vec::new();
        loop {
            let line = String::from_utf8(self.line_end(b"\r\n").await?).ok()?;
            match line.trim_end() {
                "" => return Some((body, trailers)),
                trailer => trailers.push(trailer.to_owned()),
            }
        }
    }
}
