//! The access log: a line for each request, made on the core that answered it and written by a thread of its own.
//!
//! A core formats lines into a buffer that is its alone ([`Lane`]) and hands it over whole, when it is full or a moment
//! after its first line: through a bounded queue, with a bell that wakes the writer only where it sleeps. It never waits. When the
//! queue is full the buffer is thrown away and its lines are counted; what cannot be written (a full disk, a closed pipe)
//! is counted too, and writing goes on with the next buffer.
//!
//! `Authorization`, `Cookie`, `Proxy-Authorization` and `Set-Cookie` are no fields and cannot become some. What a client
//! sent is escaped, so that it never ends a line or a value.

mod escape;
mod field;
mod queue;
mod record;
mod time;

pub use field::Field;
pub use queue::{AccessLog, Lane};
pub use record::{Form, Forwarded, Record, write_line};

/// Which requests have a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// None.
    #[default]
    Off,
    /// Every one.
    All,
    /// Those that failed: a status of 400 or more, or cut.
    Errors,
    /// Those that failed, and this share of the others.
    Sampled(Share),
}

impl Which {
    /// Whether a request has a line; `number` is its own, and decides of a share.
    pub fn takes(self, has_failed: bool, number: u64) -> bool {
        match self {
            Which::Off => false,
            Which::All => true,
            Which::Errors => has_failed,
            Which::Sampled(share) => has_failed || mix(number) <= share.0,
        }
    }
}

/// A share of all requests, in 2^64ths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// `share` of the requests: above 0, and 1 for all. What is outside of that is taken for the nearest.
    pub fn new(share: f64) -> Self {
        // `as` stops at the ends of the range, which is what is wanted.
        Self((share * u64::MAX as f64) as u64)
    }
}

/// Spreads each bit of a number over all others (the finalizer of splitmix64), so that numbers in a row become a sample.
const fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What the access log holds, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    which: Which,
    form: Form,
    fields: Vec<Field>,
    /// A bit for each of the fields.
    has: u64,
}

const _: () = assert!(Field::ALL.len() <= 64, "a bit for each field");

impl Default for Spec {
    /// Off.
    fn default() -> Self {
        Self::new(Which::Off, Form::Json, Vec::new())
    }
}

impl Spec {
    /// Lines for these requests, in this form, with these fields in their order.
    pub fn new(which: Which, form: Form, fields: Vec<Field>) -> Self {
        let has = fields.iter().fold(0, |has, field| has | 1 << *field as u64);
        Self { which, form, fields, has }
    }

    /// Which requests have a line.
    pub fn which(&self) -> Which {
        self.which
    }

    /// Whether there may be lines at all.
    pub fn is_on(&self) -> bool {
        self.which != Which::Off
    }

    /// Whether this field stands in a line.
    pub fn has(&self, field: Field) -> bool {
        self.has & 1 << field as u64 != 0
    }
}

#[cfg(test)]
mod tests;
