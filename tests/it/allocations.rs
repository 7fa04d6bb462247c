//! What a request costs the allocator: nothing, once a core is warm.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringfort::config;
use ringfort::handler::{Action, Exchange, Reply};
use ringfort::log::access::{AccessLog, Field, Form, Spec, Which};
use ringfort::metrics::ShardWriter;
use ringfort::worker::{Order, Worker};
use ringfort::{clock, rt, sys};

use crate::support::{Client, executor, on_each_driver};

/// The system's allocator, counting for each thread what it is asked for.
struct Counting;

thread_local! {
    /// Allocations and growths of this thread; const, so that counting does not allocate.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Whether the next allocation shows where it comes from.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that ends has no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    if WATCHED.try_with(|watched| watched.replace(false)) == Ok(true) {
        eprintln!("allocation while none is expected:\n{}", std::backtrace::Backtrace::force_capture());
        WATCHED.set(true);
    }
}

// SAFETY: every method passes its arguments on to the system's allocator, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `pointer` came from the system's allocator with `layout`, as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from the system's allocator with `layout`, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Where the worker's thread leaves its count for the test's thread.
type Mark = Arc<AtomicU64>;

ringfort::routes! {
    static ROUTES: Action = {
        GET "/mark" => Action::Immediate(mark),
        GET "/watch" => Action::Immediate(watch),
        GET "/unwatch" => Action::Immediate(unwatch),
    }
}

/// Tells how often this thread has allocated so far.
fn mark(exchange: &mut Exchange<'_>) -> Reply {
    let mark = exchange.context::<Mark>().unwrap();
    mark.store(COUNT.get(), Ordering::SeqCst);
    exchange.response.send(b"")
}

fn watch(exchange: &mut Exchange<'_>) -> Reply {
    WATCHED.set(true);
    exchange.response.send(b"")
}

fn unwatch(exchange: &mut Exchange<'_>) -> Reply {
    WATCHED.set(false);
    exchange.response.send(b"")
}

const CONFIG: &str = r#"{
    "routes": [
        {"match": {"path": "/text"}, "respond": {"text": "Hello, World!"}},
        {"match": {"path": "/users/:id"}, "respond": {"text": "user {id}"}},
        {
            "match": {"path": "/cached"}, "plugins": [{"use": "cache"}],
            "respond": {"text": "Hello, World!", "headers": {"Cache-Control": "max-age=3600"}}
        },
        {
            "match": {"path": "/plugins"}, "respond": {"text": "Hello, World!"},
            "plugins": [
                {"use": "request-id"}, {"use": "security-headers"}, {"use": "body-limit", "options": {"max": "1MiB"}},
                {"use": "time-out", "options": {"after": "10s"}}, {"use": "ip-filter", "options": {"allow": ["127.0.0.0/8"]}},
                {"use": "rate-limit", "options": {"rate": "1000000/s"}}, {"use": "cors", "options": {"origins": ["https://a.example"]}},
                {"use": "concurrency", "options": {"limit": 100}},
                {"use": "headers", "options": {
                    "request": {"remove": ["Host-Of-Nobody"], "set": {"X-A": "1"}, "add": {"X-B": "2"}},
                    "response": {"set": {"X-A": "1"}}
                }}
            ]
        }
    ]
}"#;

/// Runs one worker on a thread of this process, calls `test` with a connection to it, and ends it. Where it has an access log,
/// its lines go to a file that takes all.
fn with_worker(driver: &'static str, access: Spec, test: impl FnOnce(&mut Client, &Mark)) {
    let config = config::load_text(CONFIG.as_bytes()).unwrap();
    let mut snapshot = config::compile(config, ".".as_ref(), &[&ROUTES]).unwrap_or_else(|errors| panic!("{errors:?}"));
    let log = AccessLog::open(Some(Path::new("/dev/null"))).unwrap();
    log.start().unwrap();
    snapshot.settings.observing.access = access;
    let socket = sys::socket::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = sys::socket::local_address(&socket).unwrap();
    let mark = Mark::default();
    let (orders_post, orders) = rt::mailbox(16);
    let (news_post, _news) = rt::mailbox(16);
    let context = mark.clone();
    let worker = Worker {
        index: 0,
        count: 1,
        pin: None,
        executor: rt::Options { executor: executor(), driver: driver.parse().unwrap(), ..snapshot.executor },
        listeners: vec![(address, socket.into())],
        stall: snapshot.config.cores.stall,
        settings: snapshot.settings,
        metrics: ShardWriter::create(0, 1, snapshot.routes.names().len()),
        access: Some(log.lane(0)),
        routes: snapshot.routes,
        context: Arc::new(move || Rc::new(context.clone())),
        orders,
        news: news_post,
    };
    let thread = std::thread::spawn(move || worker.run());
    let mut client = Client::connect(address);
    test(&mut client, &mark);
    orders_post.post(Order::Stop).unwrap();
    thread.join().unwrap();
}

/// How often the worker's thread allocates between two marks around `work`, besides what it may for its own upkeep.
fn allocations(client: &mut Client, mark: &Mark, work: impl FnOnce(&mut Client)) -> u64 {
    let began = clock::now();
    client.get("/mark");
    let before = mark.load(Ordering::SeqCst);
    work(client);
    client.get("/mark");
    let upkeep = GROWTH + UPKEEP * (1 + clock::now().since(began).as_secs());
    (mark.load(Ordering::SeqCst) - before).saturating_sub(upkeep)
}

fn ask(client: &mut Client, path: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(client.get(path).status, 200);
    }
}

/// Requests that are pipelined in one segment.
const BATCH: usize = 16;

fn ask_in_batches(client: &mut Client, path: &str, batches: usize) {
    let batch = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").repeat(BATCH);
    for _ in 0..batches {
        client.send(&batch);
        for _ in 0..BATCH {
            assert_eq!(client.response().status, 200);
        }
    }
}

/// What a core may allocate each second however many requests it answers: it publishes its numbers then.
const UPKEEP: u64 = 8;

/// What its lists may take to grow to their size, when a busy machine has it turn otherwise than before: a slab or a queue
/// of an executor doubles. One allocation in thirty requests; one for each is what the tests look for.
const GROWTH: u64 = 64;

/// What each wait for a readable socket costs the allocator; `None` where that cannot be said.
///
/// compio on epoll: a wait is an operation, which ours keeps in a box, compio in another, with the descriptor's interest
/// in a queue, and `polling` makes its list of events anew. On io_uring the multishot receive stays armed and nothing is
/// allocated. monoio keeps operations in a slab. glommio makes each operation anew, among them the timer that it sets at
/// each turn of its loop, and lists for what it submits: between six and ten for a request, by how many turns there were.
fn allocations_per_wait(driver: &str) -> Option<u64> {
    match (executor().name(), driver) {
        ("compio", "epoll") => Some(4),
        ("compio", "io_uring") | ("monoio", _) => Some(0),
        ("glommio", _) => None,
        (other, driver) => panic!("measure what a wait costs on {other}, {driver}"),
    }
}

#[test]
fn a_warm_core_answers_fixed_responses_without_allocating() {
    const REQUESTS: usize = 2000;
    on_each_driver(|driver| {
        let Some(per_wait) = allocations_per_wait(driver) else {
            return eprintln!("{} allocates at each turn of its loop: nothing to hold it to", executor().name());
        };
        with_worker(driver, Spec::default(), |client, mark| {
            for path in ["/text", "/users/12345", "/cached", "/plugins"] {
                ask(client, path, 200);
                ask_in_batches(client, path, 20);
                // To find who allocates where nobody should: RINGFORT_TEST_WATCH=1 shows where each one comes from.
                let watched = std::env::var_os("RINGFORT_TEST_WATCH").is_some();
                client.get(if watched { "/watch" } else { "/unwatch" });
                let single = allocations(client, mark, |client| ask(client, path, REQUESTS));
                let pipelined = allocations(client, mark, |client| ask_in_batches(client, path, REQUESTS / BATCH));
                client.get("/unwatch");
                let bound = |waits: usize| per_wait * (waits as u64 + 1);
                assert!(single <= bound(REQUESTS), "{driver} {path}: {single} for {REQUESTS} requests");
                assert!(pipelined <= bound(REQUESTS / BATCH), "{driver} {path}: {pipelined} for {REQUESTS} pipelined");
            }
        });
    });
}

/// Lines are made in buffers that come back from the writer, unless it is behind: then a new one is made for each lot.
#[test]
fn a_warm_core_writes_its_access_log_without_allocating_for_a_request() {
    const REQUESTS: usize = 2000;
    /// At least so many lines are in a lot of 16 KiB.
    const LOT: usize = 32;
    /// Lots that are handed over because time has passed, and the timers for that.
    const LOTS_PER_SECOND: u64 = 16;
    on_each_driver(|driver| {
        let Some(per_wait) = allocations_per_wait(driver) else { return };
        let spec = Spec::new(Which::All, Form::Json, Field::DEFAULT.to_vec());
        with_worker(driver, spec, |client, mark| {
            ask(client, "/users/12345", 200);
            ask_in_batches(client, "/users/12345", 200);
            let began = clock::now();
            let single = allocations(client, mark, |client| ask(client, "/users/12345", REQUESTS));
            let pipelined =
                allocations(client, mark, |client| ask_in_batches(client, "/users/12345", REQUESTS / BATCH));
            let timed = LOTS_PER_SECOND * (1 + clock::now().since(began).as_secs());
            let bound = |waits: usize| per_wait * (waits as u64 + 1) + (REQUESTS / LOT) as u64 + timed;
            assert!(single <= bound(REQUESTS), "{driver}: {single} for {REQUESTS} requests");
            assert!(pipelined <= bound(REQUESTS / BATCH), "{driver}: {pipelined} for {REQUESTS} pipelined");
        });
    });
}
