//! The result as one line of JSON.

use hdrhistogram::Histogram;

use crate::engine::{Engine, Tally};

/// A JSON string; control characters, which no message of this program has, become spaces.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => out.push(' '),
            char => out.push(char),
        }
    }
    out + "\""
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

/// Percentiles in microseconds; nulls without values.
fn percentiles(histogram: &Histogram<u64>) -> String {
    let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1000.0);
    let parts = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)].map(|(name, quantile)| {
        let value = (!histogram.is_empty()).then(|| micros(histogram.value_at_quantile(quantile)));
        format!("\"{name}\":{}", optional(value))
    });
    format!("{{{}}}", parts.join(","))
}

/// The whole result.
pub fn to_json(engine: &Engine<'_>, tally: &Tally) -> String {
    let parts = [
        ("answered", tally.answered.to_string()),
        ("errors", engine.errors.count.to_string()),
        ("first_error", optional(engine.errors.first.as_deref().map(quote))),
        ("seconds", format!("{:.6}", tally.elapsed.as_secs_f64())),
        ("bytes", tally.bytes.to_string()),
        ("answer_bytes", optional(engine.expected.answer_length())),
        ("head_bytes", optional(engine.expected.head_length())),
        ("latency_us", percentiles(&tally.latency)),
        ("lag_us", percentiles(&tally.lag)),
    ];
    let parts = parts.map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quote("found \"HTTP/1.1 503\"\n\\"), r#""found \"HTTP/1.1 503\" \\""#);
    }

    #[test]
    fn percentiles_are_micros() {
        let mut histogram = Histogram::new(3).unwrap();
        assert_eq!(percentiles(&histogram), r#"{"p50":null,"p90":null,"p99":null,"p999":null,"max":null}"#);
        histogram.record_n(1000, 99).unwrap();
        histogram.record(8000).unwrap();
        assert_eq!(percentiles(&histogram), r#"{"p50":1.0,"p90":1.0,"p99":1.0,"p999":8.0,"max":8.0}"#);
    }
}
