//! The table of metrics keeps to the rules of names, and no counter of a core is left out of it.

use super::*;
use std::collections::HashSet;

fn is_valid(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(ok) && !name.contains("__")
}

#[test]
fn names_are_valid_and_unique_and_have_a_help() {
    let names: HashSet<_> = TABLE.iter().map(|definition| definition.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for definition in TABLE {
        assert!(is_valid(definition.name), "{}", definition.name);
        assert!(definition.name.starts_with("ringfort_") || definition.name.starts_with("process_"));
        assert!(definition.help.ends_with('.'), "{}", definition.name);
        assert!(definition.labels.iter().all(|label| is_valid(label) && *label != "le"));
    }
}

#[test]
fn suffixes_show_kind_and_unit() {
    for Definition { name, kind, unit, .. } in TABLE {
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let stem = name.trim_end_matches("_total");
        assert_eq!(*unit == Unit::Seconds, stem.ends_with("_seconds"), "{name}");
        assert_eq!(*unit == Unit::Bytes, stem.ends_with("_bytes"), "{name}");
        assert_eq!(*unit == Unit::Info, stem.ends_with("_info"), "{name}");
    }
}

#[test]
fn every_counter_and_gauge_of_a_core_is_in_the_table_once() {
    let (mut counters, mut gauges) = (vec![0; Counter::COUNT], vec![0; Gauge::COUNT]);
    for definition in TABLE {
        match definition.source {
            Source::PerCore(counter) => counters[counter as usize] += 1,
            Source::PerCoreBy(rows) => rows.iter().for_each(|(counter, _)| counters[*counter as usize] += 1),
            Source::CoreGauge(gauge) => gauges[gauge as usize] += 1,
            Source::CoreDriver => gauges[Gauge::DriverCode as usize] += 1,
            _ => {}
        }
    }
    assert_eq!((counters, gauges), (vec![1; Counter::COUNT], vec![1; Gauge::COUNT]));
}

#[test]
fn every_counter_of_an_upstream_and_of_a_server_is_in_the_table_once() {
    let (mut upstreams, mut servers) = (vec![0; UpstreamCounter::COUNT], vec![0; ServerCounter::COUNT]);
    for definition in TABLE {
        match definition.source {
            Source::Upstream(counter) => upstreams[counter as usize] += 1,
            Source::Server(counter) => servers[counter as usize] += 1,
            Source::ServerBy(rows) => rows.iter().for_each(|(counter, _)| servers[*counter as usize] += 1),
            _ => {}
        }
    }
    assert_eq!((upstreams, servers), (vec![1; UpstreamCounter::COUNT], vec![1; ServerCounter::COUNT]));
}
