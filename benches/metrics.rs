//! What counting costs: on a worker for each request, and on the master once a second.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ringfort::metrics::aggregate::{Aggregator, Window};
use ringfort::metrics::exposition::{ConfigSample, Facts, write_prometheus};
use ringfort::metrics::histogram::FULL;
use ringfort::metrics::process::ProcessSample;
use ringfort::metrics::report::RouteNames;
use ringfort::metrics::shard::ShardSnapshot;
use ringfort::metrics::snapshot::Snapshot;
use ringfort::metrics::{Class, Counter, ShardWriter};

const CORES: u32 = 2;
const ROUTES: usize = 1000;
const SECOND: Duration = Duration::from_secs(1);

/// Durations that fall into many buckets, without a generator of random numbers in the measured loop.
fn next_nanos(nanos: u64) -> u64 {
    nanos * 31 % 1_000_003
}

fn record(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let writer = ShardWriter::create(0, 1, 16);
    let mut nanos = 1;
    group.bench_function("request", |b| {
        b.iter(|| {
            nanos = next_nanos(nanos);
            writer.record_request(black_box(3), Class::Success, nanos);
        });
    });
    let many = ShardWriter::create(0, 1, ROUTES);
    let mut route = 0;
    group.bench_function("request_over_1000_routes", |b| {
        b.iter(|| {
            nanos = next_nanos(nanos);
            route = (route + 7) % ROUTES;
            many.record_request(black_box(route), Class::Success, nanos);
        });
    });
    // The buckets alone: the same layout in plain cells, as the master has it.
    let mut histogram = Snapshot::empty(FULL);
    group.bench_function("histogram", |b| {
        b.iter(|| {
            nanos = next_nanos(nanos);
            histogram.record(black_box(nanos));
        });
    });
    group.bench_function("counter", |b| b.iter(|| writer.add(black_box(Counter::RequestBytes), black_box(154))));
}

/// The shards of two workers on which each of 1000 routes was asked for.
fn busy_shards() -> Vec<ShardWriter> {
    (0..CORES)
        .map(|core| {
            let writer = ShardWriter::create(core, 1, ROUTES);
            let mut nanos = 1;
            for n in 0..100 * ROUTES {
                nanos = next_nanos(nanos);
                writer.record_request(n % ROUTES, Class::Success, nanos);
            }
            writer
        })
        .collect()
}

fn read_all(writers: &[ShardWriter]) -> Vec<ShardSnapshot> {
    writers.iter().map(|writer| writer.shard().read()).collect()
}

fn facts<'a>(patterns: &'a [String]) -> Facts<'a> {
    Facts {
        version: "0.0.0",
        executor: "none",
        uptime: SECOND,
        log_lines_dropped: 0,
        config: ConfigSample::default(),
        life: Default::default(),
        upgrades: [0; 3],
        process: ProcessSample::default(),
        routes: RouteNames { generation: 1, patterns },
        upstreams: &[],
        plugins: &[],
        guests: &[],
        workers: &[],
    }
}

/// The master's second: all of it stays off the request path, and has a core's second for it.
fn aggregate(c: &mut Criterion) {
    let mut group = c.benchmark_group("2_cores_1000_routes");
    let writers = busy_shards();
    group.bench_function("snapshot", |b| b.iter(|| read_all(black_box(&writers)).len()));

    // A minute of ticks, each with something new, as a server has it that runs for long.
    let mut aggregator = Aggregator::new(Duration::ZERO);
    let mut now = Duration::ZERO;
    let mut tick = |aggregator: &mut Aggregator, shards| {
        now += SECOND;
        aggregator.tick(now, shards)
    };
    for n in 0..60 {
        writers.iter().for_each(|writer| writer.record_request(n, Class::Success, 1000 * n as u64));
        tick(&mut aggregator, read_all(&writers));
    }
    group.bench_function("tick", |b| {
        b.iter_batched(
            || {
                (0..ROUTES).for_each(|route| writers[0].record_request(route, Class::Success, 5000));
                read_all(&writers)
            },
            |shards| tick(&mut aggregator, shards),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("percentiles_of_a_minute", |b| {
        b.iter(|| {
            let sums = aggregator.sums(black_box(Window::Minute));
            sums.cores.values().map(|core| core.latency.percentiles().p999_ns).max()
        });
    });
    let patterns: Vec<String> = (0..ROUTES).map(|n| format!("/r{n}/:id")).collect();
    let (mut out, facts) = (String::new(), facts(&patterns));
    group.bench_function("exposition", |b| {
        b.iter(|| {
            out.clear();
            write_prometheus(&mut out, &aggregator, &facts);
            out.len()
        });
    });
}

criterion_group!(benches, record, aggregate);
criterion_main!(benches);
