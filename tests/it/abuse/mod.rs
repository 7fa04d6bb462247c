//! Abuse: each kind of it against a server with one worker, while an innocent client of the same worker is timed; at the
//! end memory and descriptors are back where they were.
//!
//! `RINGFORT_ABUSE=full` (see `scripts/abuse`) makes each kind many times larger, holds every answer that the innocent
//! client gets to [`PROMISED`], and compares memory with that after a first round. The plain `cargo test` runs beside other tests on busy machines: there a generous bound
//! shows only that nobody is starved.

mod churn;
mod floods;
mod slow;
mod unread;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringfort::clock;

use crate::support::{Client, Server, Start, on_each_driver, pause, wait_until};

/// Within which the innocent client is answered, whatever others do.
const PROMISED: Duration = Duration::from_millis(50);
/// The same beside other tests, and in a build without optimisation.
const BUSY: Duration = Duration::from_secs(3);
/// Or so many times what it took before the abuse, where the machine is so busy that this is longer.
const BUSY_FACTOR: u32 = 20;
/// Requests of the innocent client before the abuse, for comparison.
const CALM_REQUESTS: usize = 50;
/// Requests that have every receive buffer used once: they take turns, and one that was never used takes no memory.
const WARM_REQUESTS: usize = 1100;
/// By when memory is back to where it was.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(10);
/// What memory may have grown by: a tenth.
const GROWTH: f64 = 1.1;

/// How hard one round of abuse is.
#[derive(Clone, Copy)]
struct Strength {
    is_full: bool,
}

impl Strength {
    fn of_run() -> Self {
        Self { is_full: std::env::var_os("RINGFORT_ABUSE").is_some_and(|value| value == "full") }
    }

    /// How many.
    fn of(self, quick: usize, full: usize) -> usize {
        if self.is_full { full } else { quick }
    }
}

/// What the innocent client measured.
struct Figures {
    /// How long answers took on its connection, sorted.
    kept: Vec<Duration>,
    /// How long they took on a new connection each, with connecting, sorted.
    fresh: Vec<Duration>,
}

impl Figures {
    fn worst(&self) -> Duration {
        *self.kept.last().unwrap().max(self.fresh.last().unwrap())
    }

    fn describe(&self) -> String {
        let ms = |took: Duration| took.as_secs_f64() * 1000.0;
        let at = |sorted: &[Duration], part: usize| ms(sorted[(sorted.len() - 1) * part / 100]);
        let of = |sorted: &[Duration]| {
            format!("p50 {:.2}, p99 {:.2}, worst {:.2} ms", at(sorted, 50), at(sorted, 99), at(sorted, 100))
        };
        format!(
            "{} answers: {}; {} connected anew: {}",
            self.kept.len(),
            of(&self.kept),
            self.fresh.len(),
            of(&self.fresh)
        )
    }
}

/// An innocent client: one request every few milliseconds, each tenth on a new connection, until `stop` says so.
fn be_innocent(server: &Server, mut stop: impl FnMut(usize) -> bool) -> Figures {
    let mut client = server.client();
    let mut figures = Figures { kept: Vec::new(), fresh: Vec::new() };
    let mut asked = 0;
    while !stop(asked) {
        let is_fresh = asked % 10 == 0;
        let began = clock::now();
        let response = if is_fresh { server.get("/users/7") } else { client.get("/users/7") };
        let took = clock::now().since(began);
        assert_eq!((response.status, response.text()), (200, "user 7"));
        if is_fresh { &mut figures.fresh } else { &mut figures.kept }.push(took);
        asked += 1;
        pause();
    }
    figures.kept.sort_unstable();
    figures.fresh.sort_unstable();
    figures
}

/// What the server's process holds.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    resident_kib: u64,
    descriptors: usize,
}

impl Footprint {
    fn of(server: &Server) -> Self {
        let process = format!("/proc/{}", server.pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident_kib = line.trim().trim_end_matches(" kB").parse().unwrap();
        Self { resident_kib, descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count() }
    }

    /// Once nobody is connected any more.
    fn at_rest(server: &Server) -> Self {
        for gauge in ["connections_open", "requests_in_flight", "buffers_in_use"] {
            server.wait_metric(&format!("ringfort_{gauge}"), "", 0.0);
        }
        // The last look at the gauges was a connection too, and the admin listener takes a moment to close it.
        let least = (0..50).map(|_| (pause(), Self::of(server)).1).min_by_key(|footprint| footprint.descriptors);
        least.unwrap()
    }

    /// As [`Footprint::at_rest`], when there are as many descriptors as in `fresh` again: those whom the abuse left behind
    /// in the listening queue are still to be accepted and closed.
    fn as_before(server: &Server, fresh: Self) -> Self {
        wait_until(&format!("there are {} descriptors again, as before any abuse", fresh.descriptors), || {
            Self::at_rest(server).descriptors == fresh.descriptors
        });
        // What thousands of connections leave with the allocator is given back a few seconds after they have gone.
        let until = clock::now() + GIVEN_BACK_WITHIN;
        loop {
            let now = Self::at_rest(server);
            if now.resident_kib as f64 <= fresh.resident_kib as f64 * GROWTH || clock::now() > until {
                return now;
            }
        }
    }
}

/// Ends the innocent client, also when the abuse has panicked.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs two rounds of one kind of abuse on each driver, the second beside an innocent client. `attack` returns when all of
/// its clients are gone.
#[track_caller]
fn endure(name: &str, start: impl Fn(Start) -> Start + Sync, attack: impl Fn(&Server, Strength) + Sync) {
    let strength = Strength::of_run();
    let test = |driver: &'static str| {
        let server = start(Start::app(driver).workers(1)).serve();
        if strength.is_full {
            give_own_core(&server);
        }
        let mut warming = server.client();
        (0..WARM_REQUESTS).for_each(|_| assert_eq!(warming.get("/users/7").status, 200));
        drop(warming);
        let calm = be_innocent(&server, |asked| asked >= CALM_REQUESTS);
        let fresh = Footprint::at_rest(&server);
        attack(&server, strength);
        let between = Footprint::as_before(&server, fresh);
        let over = AtomicBool::new(false);
        let figures = std::thread::scope(|scope| {
            let innocent = scope.spawn(|| be_innocent(&server, |asked| asked >= 10 && over.load(Ordering::Relaxed)));
            let guard = Over(&over);
            attack(&server, strength);
            drop(guard);
            innocent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let after = Footprint::as_before(&server, fresh);
        eprintln!(
            "{name}, {driver}\n  calm:  {}\n  abuse: {}\n  resident {} KiB fresh, {} after one round, {} after two; {} \
             descriptors fresh, {}, {}",
            calm.describe(),
            figures.describe(),
            fresh.resident_kib,
            between.resident_kib,
            after.resident_kib,
            fresh.descriptors,
            between.descriptors,
            after.descriptors,
        );
        let descriptors = [between.descriptors, after.descriptors];
        assert_eq!(
            descriptors, [fresh.descriptors; 2],
            "{name}, {driver}: descriptors before any abuse (right), and after"
        );
        let most = fresh.resident_kib as f64 * GROWTH;
        // AddressSanitizer keeps what is freed, to find who uses it still.
        let is_kept = std::env::var_os("ASAN_OPTIONS").is_some();
        assert!(
            is_kept || after.resident_kib as f64 <= most,
            "{name}, {driver}: memory was {fresh:?} and is {after:?}"
        );
        let bound = if strength.is_full { PROMISED } else { BUSY.max(calm.worst() * BUSY_FACTOR) };
        assert!(figures.worst() < bound, "{name}, {driver}: an innocent client waited {:?}", figures.worst());
    };
    if strength.is_full { on_each_driver_in_turn(test) } else { on_each_driver(test) }
}

/// Puts the server on a core of its own and everybody else, who inherits it from this thread, on the others: how long the
/// scheduler lets a server wait for clients that take its core is not what is measured.
fn give_own_core(server: &Server) {
    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
    // The main thread's: this one's may have been narrowed by a test before.
    let mut others = sched_getaffinity(Some(rustix::process::getpid())).unwrap();
    if others.count() < 2 {
        return;
    }
    let core = (0..CpuSet::MAX_CPU).find(|core| others.is_set(*core)).unwrap();
    others.unset(core);
    let mut own = CpuSet::new();
    own.set(core);
    for thread in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let thread = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        sched_setaffinity(Pid::from_raw(thread), &own).unwrap();
    }
    sched_setaffinity(None, &others).unwrap();
}

/// Alone on the machine, for measuring.
fn on_each_driver_in_turn(test: impl Fn(&'static str)) {
    if ringfort::sys::probe::io_uring().is_ok() {
        test("io_uring");
    }
    test("epoll");
}

/// `count` clients that have connected.
fn crowd(server: &Server, count: usize) -> Vec<Client> {
    (0..count).map(|_| server.client()).collect()
}

/// Runs `work` on some threads at once, with the thread's number and so many things to do in all.
fn on_threads(threads: usize, things: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || (thread..things).step_by(threads).for_each(work));
        }
    });
}

/// Waits until a counter has grown by `by` since it was `before`.
#[track_caller]
fn wait_growth(server: &Server, name: &str, labels: &str, before: f64, by: usize) {
    wait_until(&format!("{name}{{{labels}}} grows by {by}"), || server.metric(name, labels) >= before + by as f64);
}
