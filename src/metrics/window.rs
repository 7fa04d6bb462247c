//! The spans of time that rates and percentiles are shown for.

use std::collections::VecDeque;

/// A span of time, up to the last tick, that rates and percentiles are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last tick.
    Second,
    /// The last ten seconds.
    TenSeconds,
    /// The last minute.
    Minute,
    /// Since the aggregator was created; for routes, since their config was loaded.
    Lifetime,
}

impl Window {
    /// All windows, by length.
    pub const ALL: [Window; 4] = [Window::Second, Window::TenSeconds, Window::Minute, Window::Lifetime];

    /// Its name in labels and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Window::Second => "1s",
            Window::TenSeconds => "10s",
            Window::Minute => "60s",
            Window::Lifetime => "lifetime",
        }
    }
}

/// Appends to a ring, forgetting the oldest.
pub(super) fn push_bounded<T>(ring: &mut VecDeque<T>, item: T, max: usize) {
    if ring.len() == max {
        ring.pop_front();
    }
    ring.push_back(item);
}
