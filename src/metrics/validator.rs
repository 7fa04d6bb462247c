//! A strict reader of Prometheus' text format 0.0.4, for tests of our own writer: it refuses what a scraper would, and
//! also what a scraper would let pass but we never write.

use std::collections::{HashMap, HashSet};

/// The samples by series (name and labels as written), or the first thing that is wrong.
pub(super) fn check(text: &str) -> Result<HashMap<String, f64>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let (mut samples, mut families) = (HashMap::new(), HashSet::new());
    let mut histograms = Histograms::default();
    // The family whose samples may follow: its name and kind.
    let (mut help, mut family) = (None, None);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').ok_or_else(|| format!("no help: {line}"))?;
            (help, family) = (Some(name), None);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
            if help != Some(name) || !families.insert(name) || !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(format!("TYPE without its HELP, twice, or unknown: {line}"));
            }
            family = Some((name, kind));
        } else {
            let (name, labels, value) = parse_sample(line)?;
            let (expected, kind) = family.ok_or_else(|| format!("sample before HELP and TYPE: {line}"))?;
            let suffix = name.strip_prefix(expected).ok_or_else(|| format!("sample of another family: {line}"))?;
            if kind == "histogram" {
                histograms.add(expected, suffix, labels, value)?;
            } else if !suffix.is_empty() {
                return Err(format!("sample of another family: {line}"));
            }
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            if samples.insert(series.to_owned(), value).is_some() {
                return Err(format!("series twice: {series}"));
            }
        }
    }
    histograms.finish()?;
    Ok(samples)
}

type Labels = Vec<(String, String)>;

fn parse_sample(line: &str) -> Result<(&str, Labels, f64), String> {
    let wrong = |what: &str| format!("{what}: {line}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Err(wrong("invalid name"));
    }
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
            let (value, after) = parse_quoted(after).ok_or_else(|| wrong("unterminated label value"))?;
            if labels.iter().any(|(name, _)| name == label) {
                return Err(wrong("label twice"));
            }
            labels.push((label.to_owned(), value));
            match after.split_at_checked(1) {
                Some((",", after)) => rest = after,
                Some(("}", after)) => break rest = after,
                _ => return Err(wrong("unterminated labels")),
            }
        }
    }
    let value = rest.strip_prefix(' ').and_then(|text| text.parse::<f64>().ok()).ok_or_else(|| wrong("no value"))?;
    if !value.is_finite() || value < 0.0 {
        return Err(wrong("value is not finite, or negative"));
    }
    Ok((name, labels, value))
}

fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            (_, c) => value.push(c),
        }
    }
}

#[derive(Default)]
struct Series {
    bounds: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

#[derive(Default)]
struct Histograms(HashMap<(String, Labels), Series>);

impl Histograms {
    fn add(&mut self, name: &str, suffix: &str, mut labels: Labels, value: f64) -> Result<(), String> {
        let at = labels.iter().position(|(label, _)| label == "le");
        let bound = at.map(|at| labels.remove(at).1);
        let series = self.0.entry((name.to_owned(), labels)).or_default();
        match (suffix, bound) {
            ("_bucket", Some(bound)) => {
                let bound = if bound == "+Inf" { Ok(f64::INFINITY) } else { bound.parse() };
                series.bounds.push((bound.map_err(|error| format!("{name}: {error}"))?, value));
            }
            ("_sum", None) => series.sum = Some(value),
            ("_count", None) => series.count = Some(value),
            _ => return Err(format!("{name}{suffix} is no series of a histogram")),
        }
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        for ((name, labels), series) in self.0 {
            let rises = series.bounds.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = series.bounds.last().copied();
            if !rises || series.sum.is_none() || last != series.count.map(|count| (f64::INFINITY, count)) {
                return Err(format!("histogram {name}{labels:?} does not add up"));
            }
        }
        Ok(())
    }
}
