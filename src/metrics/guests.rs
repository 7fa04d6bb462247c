//! Metrics that plugins in WebAssembly define, in the exposition. Plain data, summed over cores by whoever has it.
//!
//! A plugin chooses names as it likes, and two may choose the same for different things. So a name is the value of a label,
//! where every text is valid and all of it is seen, and there is one metric for each kind.

use std::fmt;

use super::defs::{Definition, Kind, Source, Unit};
use super::exposition::{sample, series};

/// Upper bounds of the buckets of a plugin's histogram, in whatever it counts: those of Envoy, for which such plugins are made.
pub const GUEST_BOUNDS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];

/// The metrics of one module at one moment.
#[derive(Clone, Debug)]
pub struct GuestSample {
    /// The module's name; no two have the same.
    pub module: String,
    /// Its metrics; no two have the same name and kind.
    pub metrics: Vec<GuestMetric>,
}

/// One metric at one moment.
#[derive(Clone, Debug)]
pub struct GuestMetric {
    /// As the plugin calls it.
    pub name: String,
    /// All cores together.
    pub value: GuestValue,
}

/// What a metric has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestValue {
    /// It only grows.
    Counter(u64),
    /// It goes up and down.
    Gauge(u64),
    /// Values that were recorded.
    Histogram {
        /// How many there were up to each of [`GUEST_BOUNDS`] and above the one before, and above the last.
        counts: [u64; GUEST_BOUNDS.len() + 1],
        /// The sum of them.
        sum: u64,
    },
}

/// What is shown of plugins' own metrics: one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestSeries {
    /// Those that only grow.
    Counters,
    /// Those that go up and down.
    Gauges,
    /// Those that values are recorded in.
    Histograms,
}

pub(super) const COUNTERS: Definition = definition(
    "ringfort_wasm_counter_total",
    Kind::Counter,
    GuestSeries::Counters,
    "A counter that a plugin in WebAssembly has defined.",
);

pub(super) const GAUGES: Definition = definition(
    "ringfort_wasm_gauge",
    Kind::Gauge,
    GuestSeries::Gauges,
    "A gauge that a plugin in WebAssembly has defined.",
);

pub(super) const HISTOGRAMS: Definition = definition(
    "ringfort_wasm_histogram",
    Kind::Histogram,
    GuestSeries::Histograms,
    "A histogram that a plugin in WebAssembly has defined.",
);

const fn definition(name: &'static str, kind: Kind, series: GuestSeries, help: &'static str) -> Definition {
    Definition { name, kind, unit: Unit::Count, help, labels: &["module", "metric"], source: Source::Guests(series) }
}

/// Writes the samples of one kind.
pub(super) fn write_guests(
    out: &mut String,
    definition: &Definition,
    kind: GuestSeries,
    guests: &[GuestSample],
) -> fmt::Result {
    for guest in guests {
        for metric in &guest.metrics {
            let labels = [guest.module.as_str(), metric.name.as_str()];
            match (kind, &metric.value) {
                (GuestSeries::Counters, GuestValue::Counter(value))
                | (GuestSeries::Gauges, GuestValue::Gauge(value)) => {
                    sample(out, definition, &labels, value)?;
                }
                (GuestSeries::Histograms, GuestValue::Histogram { counts, sum }) => {
                    write_histogram(out, definition, &labels, counts, *sum)?;
                }
                (GuestSeries::Counters | GuestSeries::Gauges | GuestSeries::Histograms, _) => {}
            }
        }
    }
    Ok(())
}

fn write_histogram(
    out: &mut String,
    definition: &Definition,
    labels: &[&str],
    counts: &[u64; GUEST_BOUNDS.len() + 1],
    sum: u64,
) -> fmt::Result {
    let mut so_far = 0_u64;
    for (bound, count) in GUEST_BOUNDS.iter().zip(counts) {
        so_far = so_far.saturating_add(*count);
        series(out, definition, "_bucket", labels, Some(&bound.to_string()), so_far)?;
    }
    let all = counts.iter().fold(0, |all: u64, count| all.saturating_add(*count));
    series(out, definition, "_bucket", labels, Some("+Inf"), all)?;
    series(out, definition, "_sum", labels, None, sum)?;
    series(out, definition, "_count", labels, None, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::exposition::write_definition_header;
    use crate::metrics::validator;

    #[test]
    fn metrics_of_any_name_are_valid_and_each_is_seen() {
        let mut counts = [0; GUEST_BOUNDS.len() + 1];
        (counts[0], counts[2], counts[18]) = (1, 2, 3);
        let metric = |name: &str, value| GuestMetric { name: name.to_owned(), value };
        let metrics = vec![
            metric("a.b", GuestValue::Counter(7)),
            metric("a_b", GuestValue::Counter(8)),
            metric("a \"quoted\"\n\\name", GuestValue::Counter(9)),
            metric("a.b", GuestValue::Gauge(4)),
            metric("a.b", GuestValue::Histogram { counts, sum: 99 }),
        ];
        let guests = ["one", "two"].map(|module| GuestSample { module: module.to_owned(), metrics: metrics.clone() });
        let mut text = String::new();
        for (definition, kind) in
            [(&COUNTERS, GuestSeries::Counters), (&GAUGES, GuestSeries::Gauges), (&HISTOGRAMS, GuestSeries::Histograms)]
        {
            write_definition_header(&mut text, definition).unwrap();
            write_guests(&mut text, definition, kind, &guests).unwrap();
        }
        let samples = validator::check(&text).unwrap();
        assert_eq!(samples.len(), 2 * (4 + GUEST_BOUNDS.len() + 3));
        let found = |series: &str| samples.get(series).copied();
        assert_eq!(found("ringfort_wasm_counter_total{module=\"one\",metric=\"a.b\"}"), Some(7.0));
        assert_eq!(found("ringfort_wasm_counter_total{module=\"two\",metric=\"a_b\"}"), Some(8.0));
        assert_eq!(found("ringfort_wasm_gauge{module=\"one\",metric=\"a.b\"}"), Some(4.0));
        assert_eq!(found("ringfort_wasm_histogram_bucket{module=\"one\",metric=\"a.b\",le=\"10\"}"), Some(3.0));
        assert_eq!(found("ringfort_wasm_histogram_count{module=\"one\",metric=\"a.b\"}"), Some(6.0));
    }
}
