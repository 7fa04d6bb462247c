//! Time as the rest of the code sees it: monotonic moments, the executor turn's cached moment, and the `Date` bytes.
//!
//! Nobody else reads the operating system's clock, so that a simulated world can own time: it puts a [`Source`] in
//! place on its thread and every deadline, latency and `Date` follows.

use std::cell::{Cell, RefCell};
use std::ops::Add;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the monotonic clock: nanoseconds since an origin fixed at the process's first look at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// A moment that no deadline reaches: some 580 years after the origin.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this moment; zero when `earlier` is the later one.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, after: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Where this thread's time comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// The operating system: CLOCK_MONOTONIC for moments, CLOCK_REALTIME for dates.
    System,
    /// A world that moves time by hand: the moment, and the wall clock at the origin.
    Simulated {
        /// The current moment.
        now: Moment,
        /// Wall-clock time at `Moment::from_nanos(0)`, since the Unix epoch.
        epoch: Duration,
    },
}

/// Bytes of an HTTP date in IMF-fixdate form (RFC 9110 section 5.6.7).
pub const DATE_BYTES: usize = 29;

struct DateCache {
    text: [u8; DATE_BYTES],
    valid_until: Moment,
}

thread_local! {
    static SOURCE: Cell<Source> = const { Cell::new(Source::System) };
    static TURN: Cell<Moment> = const { Cell::new(Moment(0)) };
    static DATE: RefCell<DateCache> = const { RefCell::new(DateCache { text: [b' '; DATE_BYTES], valid_until: Moment(0) }) };
}

/// Puts this thread's time under another source. Dates and the cached moment are read anew.
pub fn set_source(source: Source) {
    SOURCE.set(source);
    TURN.set(Moment(0));
    DATE.with_borrow_mut(|date| date.valid_until = Moment(0));
}

/// The current moment, read from the clock (some 25 ns): for measuring. Deadlines use [`turn`].
pub fn now() -> Moment {
    match SOURCE.get() {
        Source::System => system_now(),
        Source::Simulated { now, .. } => now,
    }
}

/// The moment at which the executor's current turn began: one clock read serves every task of the turn.
pub fn turn() -> Moment {
    match TURN.get() {
        Moment(0) => refresh(),
        moment => moment,
    }
}

/// Reads the clock and keeps it as [`turn`]'s answer; the executor calls this each time it returns from the kernel.
pub fn refresh() -> Moment {
    let moment = now();
    TURN.set(moment);
    moment
}

/// Wall-clock time since the Unix epoch; may step when the host's clock is set.
pub fn wall() -> Duration {
    match SOURCE.get() {
        #[allow(clippy::disallowed_methods, reason = "this module is where the clock is read")]
        Source::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        Source::Simulated { now, epoch } => epoch + Duration::from_nanos(now.as_nanos()),
    }
}

/// CPU time that this thread has used: what work cost it, however busy the host is. A system call.
#[cfg(feature = "wasm")]
pub fn thread_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or_default(), u32::try_from(used.tv_nsec).unwrap_or_default())
}

/// The `Date` field's value for this turn, formatted once a second.
pub fn http_date() -> [u8; DATE_BYTES] {
    let moment = turn();
    DATE.with_borrow_mut(|date| {
        if moment >= date.valid_until {
            let wall = wall();
            date.text = format_date(wall);
            // Valid to the end of this wall-clock second: a step of the host's clock shows within a second too.
            date.valid_until = moment + Duration::from_nanos(1_000_000_000 - u64::from(wall.subsec_nanos()));
        }
        date.text
    })
}

/// `since_epoch` as an HTTP date (RFC 9110 section 5.6.7), whole seconds.
pub fn format_date(since_epoch: Duration) -> [u8; DATE_BYTES] {
    // httpdate formats years 1970 to 9999; a host clock beyond that is shown as the end of it.
    let bounded = since_epoch.min(Duration::from_secs(253_402_300_799));
    let text = httpdate::fmt_http_date(UNIX_EPOCH + bounded);
    let mut bytes = [b' '; DATE_BYTES];
    bytes.copy_from_slice(&text.as_bytes()[..DATE_BYTES]);
    bytes
}

/// Parses any of the three date forms of RFC 9110 section 5.6.7 into time since the Unix epoch.
pub fn parse_date(value: &str) -> Option<Duration> {
    httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()
}

fn system_now() -> Moment {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    let now = std::time::Instant::now();
    let since = now.duration_since(*ORIGIN.get_or_init(|| now));
    // One is added so that no real moment is zero, which marks a turn that has not begun.
    Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX - 1).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_never_go_backwards() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }

    #[test]
    fn simulated_time_moves_only_by_hand_and_the_date_follows() {
        let epoch = Duration::from_secs(784_111_777);
        set_source(Source::Simulated { now: Moment::from_nanos(1), epoch });
        assert_eq!(&http_date(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        set_source(Source::Simulated { now: Moment::from_nanos(1) + Duration::from_secs(2), epoch });
        assert_eq!(&http_date(), b"Sun, 06 Nov 1994 08:49:39 GMT");
        assert_eq!(now(), now());
        set_source(Source::System);
    }

    #[test]
    fn dates_round_trip_and_all_three_forms_are_read() {
        let wanted = Some(Duration::from_secs(784_111_777));
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_date(text), wanted, "{text}");
        }
        assert_eq!(parse_date("yesterday"), None);
    }

    #[test]
    fn adding_past_the_end_of_time_saturates() {
        assert_eq!(Moment::NEVER + Duration::from_secs(1), Moment::NEVER);
        assert_eq!(Moment::from_nanos(5).since(Moment::from_nanos(9)), Duration::ZERO);
    }
}
