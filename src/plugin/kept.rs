//! What a plugin keeps of responses, as the operator sees it: how much, how useful, and away with it.

/// Something that keeps responses.
pub trait Kept {
    /// Forgets responses; says how many.
    fn purge(&self, which: &Purge<'_>) -> u64;

    /// Its numbers.
    fn sample(&self) -> KeptSample;
}

/// Which responses are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge<'p> {
    /// Those of this host alone, in lower case, with its port where it has an unusual one.
    pub host: Option<&'p [u8]>,
    /// Of which resources.
    pub path: PurgePath<'p>,
}

/// Which resources a [`Purge`] is about; queries make no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgePath<'p> {
    /// All of them.
    All,
    /// Those of this path.
    Exact(&'p [u8]),
    /// Those whose path begins so.
    Prefix(&'p [u8]),
}

impl Purge<'_> {
    /// Whether it is about a resource.
    pub fn covers(&self, host: &[u8], path: &[u8]) -> bool {
        self.host.is_none_or(|own| own == host)
            && match self.path {
                PurgePath::All => true,
                PurgePath::Exact(own) => own == path,
                PurgePath::Prefix(own) => path.starts_with(own),
            }
    }
}

/// The numbers of something that keeps responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptSample {
    /// Responses.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that there may be.
    pub bytes_max: u64,
    /// Requests that were answered with a stored response, also a stale one.
    pub hits: u64,
    /// Requests that were not, and could have been.
    pub misses: u64,
    /// Responses that were stored.
    pub stored: u64,
    /// Responses that left for want of room.
    pub evicted: u64,
}
