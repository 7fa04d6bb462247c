//! Every bound and time-out that is not an operator's to set: one const, the unit in its name, one sentence why.

// HTTP messages

/// Bytes of a request head that the offsets of a parsed head can address; `limits.head` in the config is at most this.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one request that can be parsed at all; `limits.headers` in the config is at most this.
pub const HEADERS_MAX: usize = 256;
/// Bytes of a request method: the longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 32;
/// Bytes of a host name, without port and trailing dot (RFC 1035 section 2.3.4, in its text form).
pub const HOST_BYTES_MAX: usize = 253;
/// Bytes of a chunk-size line with its extension, without CRLF (RFC 9112 section 7.1.1): real extensions are tiny.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Bytes of all chunk extensions of one body together, and of digits beyond the 16th of its sizes: without it, one-byte chunks with a full line of extension each
/// would make the server read a thousand bytes per byte of body, for as long as the body limit allows.
pub const CHUNK_EXTENSIONS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one message's trailer section (RFC 9112 section 7.1.2).
pub const TRAILERS_BYTES_MAX: usize = 8 * 1024;
/// Fields in one message's trailer section.
pub const TRAILERS_MAX: usize = 64;
/// Bytes of the header fields of one response, as they are sent.
pub const RESPONSE_FIELDS_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one response.
pub const RESPONSE_FIELDS_MAX: usize = 256;

// Routes

/// Routes of one table: bounds its memory and keeps every offset into its text within 32 bits.
pub const ROUTES_MAX: usize = 256 * 1024;
/// Bytes of one route pattern: far above any real one, and small enough that offsets into a pattern fit 16 bits.
pub const ROUTE_PATTERN_BYTES_MAX: usize = 4 * 1024;
/// Parameters that one route pattern may have; a route's parameters are kept in a fixed array, without heap.
pub const ROUTE_PARAMS_MAX: usize = 16;
/// Routes that lost which one `explain` lists; the rest is only counted, or a large table would drown its reader.
pub const EXPLAIN_LOSERS_MAX: usize = 50;

/// Conditions on header fields, query and cookies that one route may have: each is looked for in every request of its path.
pub const ROUTE_PREDICATES_MAX: usize = 32;

// Upstreams

/// Upstreams of one config: each core keeps state and metrics for every one.
pub const UPSTREAMS_MAX: usize = 1024;
/// Bytes of an upstream's name, which is a metric label.
pub const UPSTREAM_NAME_BYTES_MAX: usize = 64;
/// Servers of one upstream: some ways to choose one look at all of them.
pub const UPSTREAM_SERVERS_MAX: usize = 1024;
/// Weight of a server, or of an upstream in a split: shares of a thousandth can be said, and sums stay far within 32 bits.
pub const WEIGHT_MAX: u32 = 1000;
/// Upstreams among which one route splits its requests.
pub const SPLIT_MAX: usize = 32;
/// Networks that one route trusts: the list is searched for each address of a request's `X-Forwarded-For`.
pub const TRUST_MAX: usize = 256;
/// Edits of the fields of a message that one route may make, for requests and for responses each.
pub const FIELD_EDITS_MAX: usize = 64;
/// Bytes of the path of a unix socket: `sockaddr_un` has 108, with the zero at the end.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

// Connections

/// Bytes of answers that one batch of pipelined requests gathers before they are sent: bounds the output of a client
/// that pipelines and does not read.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Answers that one batch gathers: after so many the core turns to its other connections.
pub const BATCH_REQUESTS_MAX: usize = 64;
/// Bytes of a piece that is copied behind the response's head to go out with it; more is sent from where it is.
pub const COPY_BYTES_MAX: usize = 16 * 1024;
/// Looks in a write time-out at how much of what a socket holds the client has taken: the kernel tells of it only when
/// about a third of the socket's buffer (megabytes) is free again, which a slow reader takes minutes for.
pub const WRITE_LOOKS: u32 = 4;
/// Bytes of an unread request body that are read and thrown away to keep a connection; with more it is closed.
pub const DISCARD_BYTES_MAX: u64 = 256 * 1024;
/// Bytes that are read and thrown away after the last response, so that the client gets to read it (RFC 9112
/// section 9.6).
pub const LINGER_BYTES_MAX: u64 = 1024 * 1024;
/// Milliseconds that such a lingering close may take.
pub const LINGER_MS: u64 = 2_000;
/// Milliseconds that a connection between requests stays open when its core begins to drain: requests that crossed the
/// news on their way are answered, and the process still leaves within a blink.
pub const DRAIN_GRACE_MS: u64 = 50;
/// Operations that one half of a connection completes without waiting before the core turns to other work: a peer that
/// keeps up with a stream would have the core to itself otherwise.
pub const STREAM_BATCH: u32 = 16;
/// Tasks that stood back in one turn for which a core keeps the place: 4 KiB, which the next ones do not allocate again.
pub const YIELDED_KEPT: usize = 256;
/// Deadlines that come due at once before the core turns to other work.
pub const TIMER_BATCH: usize = 64;
/// Connections accepted in a row before the core turns to other work.
pub const ACCEPT_BATCH: usize = 64;
/// Request scratches (parsed head, header list) that a core keeps for reuse, some 3 KiB each.
pub const TURNS_KEPT: usize = 64;

/// Bytes of a request body that a proxy reads whole before it sends them, so that it can send them again, and bytes of
/// a response that may wait in receive buffers for the client.
pub const PROXY_HELD_BYTES_MAX: usize = 16 * 1024;
/// Parsed response heads that a core keeps for reuse, some 1 KiB each.
pub const RESPONSE_HEADS_KEPT: usize = 64;
/// Servers that one request is sent to at most.
pub const ATTEMPTS_MAX: u32 = 16;
/// Interim responses before one final one: more is no server that means well.
pub const INTERIM_RESPONSES_MAX: u32 = 16;
/// Milliseconds for which an answer with the address of a server's name holds at least, whatever its TTL: one with a TTL of
/// 0 would be asked for all the time.
pub const RESOLVE_MIN_MS: u64 = 1_000;
/// Milliseconds for which it holds at most: a server that has moved should be found in minutes though its TTL says days.
pub const RESOLVE_MAX_MS: u64 = 300_000;
/// Milliseconds after which a name that stands in `/etc/hosts` is looked for there again: the file has no TTL, and reading
/// it costs little.
pub const RESOLVE_HOSTS_MS: u64 = 10_000;
/// Milliseconds after the first failure to resolve a name; each further one in a row doubles it.
pub const RESOLVE_RETRY_MIN_MS: u64 = 1_000;
/// Milliseconds between attempts to resolve a name, however many have failed: a name that comes to be is found soon.
pub const RESOLVE_RETRY_MAX_MS: u64 = 30_000;
/// Milliseconds that one look-up may take, with all search domains, name servers and attempts that the host's settings name.
pub const LOOK_UP_MS_MAX: u64 = 30_000;
/// Look-ups of different names under way at once: bounds sockets, and what name servers get when the gateway starts.
pub const LOOK_UPS_MAX: usize = 32;
/// Name servers that are asked, of the config or the host; the C library takes three.
pub const NAME_SERVERS_MAX: usize = 8;
/// Search domains of the host that are tried, each with questions of its own; Kubernetes allows as many.
pub const SEARCH_DOMAINS_MAX: usize = 32;
/// Bytes of `/etc/resolv.conf` that are read: real ones have some hundreds.
pub const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of `/etc/hosts` that are read, line by line: lists of blocked names are a few MiB.
pub const HOSTS_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Addresses of one server name that are used.
pub const ADDRESSES_MAX: usize = 64;
/// Aliases (CNAME) that are followed from a name to its addresses: real chains have two or three, and each link looks through
/// the whole answer.
pub const ALIASES_MAX: usize = 16;
/// Bytes of a response head that an active check reads.
pub const PROBE_BYTES_MAX: usize = 16 * 1024;
/// Bytes that may come beside the body of an answer that the master fetches: its head, the sizes of its chunks, TLS.
pub const FETCH_OVERHEAD_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that a peer may send until the TLS handshake is over: most are its chain of certificates, a few KiB, and some 20 with
/// keys that withstand quantum computers.
pub const TLS_HANDSHAKE_BYTES_MAX: u64 = 48 * 1024;
/// Copies of requests that one core has under way to mirrors.
pub const MIRRORS_MAX: usize = 256;
/// Bytes of a mirror's response that are read and thrown away to keep its connection.
pub const MIRROR_BYTES_MAX: usize = 1024 * 1024;

// Buffers, timers, threads

/// Bytes of a small pooled buffer: the responses of one batch fit into it almost always.
pub const SMALL_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes of a large pooled buffer: one read of a file, one piece of a long body.
pub const LARGE_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a file that one call sends from the kernel's cache: copying them for a peer on the same host takes some 200 µs,
/// during which the core does nothing else. nginx sends twice as much in one call.
pub const FILE_PIECE_BYTES: u64 = 1024 * 1024;
/// Small buffers that a core keeps for reuse (1 MiB a core).
pub const SMALL_BUFFERS_KEPT: usize = 256;
/// Large buffers that a core keeps for reuse (2 MiB a core).
pub const LARGE_BUFFERS_KEPT: usize = 32;
/// Buffers of a receive ring (`cores.ring.buffers`): buffer ids are 16 bits, and the kernel's ring holds 2^15.
pub const RING_BUFFERS_MAX: u16 = 32768;
/// Bytes from which an allocation is a mapping of its own, given back to the system when it is freed; nothing on the way
/// of a request is so large. glibc's default before it adapts.
pub const MMAP_THRESHOLD_BYTES: i32 = 128 * 1024;
/// Connections that have closed, for each that is open, after which freed memory is given back to the system.
pub const GIVE_BACK_RATIO: u64 = 3;
/// Connections that have closed before their memory is worth giving back: with a long response on its way each, it may be
/// some hundreds of KiB.
pub const GIVE_BACK_CONNECTIONS_MIN: u64 = 8;
/// Seconds from giving memory back until it is looked at again: it holds up allocations for a while.
pub const GIVE_BACK_EVERY_SECONDS: u64 = 5;
/// Milliseconds to which deadlines are rounded up, so that many of them share one wake-up.
pub const TIMER_GRAIN_MS: u64 = 4;
/// Threads of a core's blocking pool: cold file look-ups, and file reads on the epoll driver.
pub const BLOCKING_THREADS_MAX: usize = 64;
/// Milliseconds after which the making of a config gives way to everything else on its core: a small one is made by then.
pub const BACKGROUND_GIVES_WAY_MS: u64 = 10;
/// Milliseconds for which it gives way at most: a core that is busy all the time must not put a reload off for ever.
pub const BACKGROUND_GIVES_WAY_MS_MAX: u64 = 5_000;
/// Control messages under way to one worker, or from all of them to the master.
pub const CONTROL_MESSAGES_MAX: usize = 1024;
/// Times that a worker shows itself alive within `cores.stall`, and the master looks: with one beat and one look of delay
/// each, a stall is told of long before twice that time.
pub const BEATS_PER_STALL: u32 = 8;
/// Milliseconds after which a worker that broke down is started again; twice as long each time that it does so again.
pub const RESTART_AFTER_MS: u64 = 100;
/// Milliseconds that such a wait grows to: connections stand in the worker's queue meanwhile, whose clients wait as long.
pub const RESTART_AFTER_MAX_MS: u64 = 10_000;
/// Seconds that a worker must have run for its earlier breakdowns to count no more.
pub const RESTART_FORGET_SECONDS: u64 = 60;

// Upstreams

/// Seconds over which a retry budget compares retries with requests.
pub const RETRY_WINDOW_SECS: u64 = 10;
/// Retries a second, over all cores, that an upstream may make whatever its requests: with a share alone, an upstream with
/// few requests could never retry.
pub const RETRY_FLOOR_PER_SEC: u64 = 3;
/// Times that a server is drawn by chance, in the hope of one that is available, before all are looked at.
pub const BALANCE_DRAWS_MAX: u32 = 8;
/// Entries of a Maglev table: a prime (so that every step visits all of them), and 300 for each of 200 servers, which
/// keeps shares within a percent. Two bytes each.
pub const MAGLEV_ENTRIES: usize = 65_537;
/// Steps that a round robin is moved ahead by chance when it starts, so that the cores do not all begin with the first
/// server.
pub const ROUND_ROBIN_START_MAX: u64 = 1024;
/// Seconds after which a peak of a server's latency has lost two thirds of its weight.
pub const LATENCY_DECAY_SECS: u64 = 10;

// Lifecycle

/// Services of one program: each wake-up of the launcher looks at all of them.
pub const SERVICES_MAX: usize = 256;
/// Bytes of the name of a service, an initializer or a health check, which is a metric label.
pub const SERVICE_NAME_BYTES_MAX: usize = 64;
/// Seconds in which a service becomes ready, and an initializer is done, unless the program says otherwise.
pub const SERVICE_START_SECS: u64 = 30;
/// Seconds in which a service ends when it is told to stop, unless the program says otherwise.
pub const SERVICE_STOP_SECS: u64 = 10;
/// Seconds for the whole start, unless the program says otherwise: what starts a program has lost patience by then.
pub const LAUNCH_START_SECS: u64 = 120;
/// Seconds for stopping all services, the drain aside, unless the program says otherwise.
pub const LAUNCH_STOP_SECS: u64 = 60;
/// Health checks of one program.
pub const CHECKS_MAX: usize = 256;
/// Milliseconds that a health check may take unless the program says otherwise: as long as Kubernetes waits for a probe, twice.
pub const CHECK_WITHIN_MS: u64 = 2_000;
/// Milliseconds from one run of a health check to the next unless the program says otherwise.
pub const CHECK_EVERY_MS: u64 = 5_000;
/// Bytes of what a health check says that are kept and shown.
pub const CHECK_DETAIL_BYTES_MAX: usize = 1024;

// WASM plugins

/// Bytes of a WASM module: those of the Go SDK, the largest known, have some megabytes.
pub const WASM_MODULE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a WASM module's manifest.
pub const WASM_MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Milliseconds that a WASM plugin may pause a request, or a response.
pub const WASM_PAUSE_MS: u64 = 30_000;
/// Compiled modules that are kept though no config uses them: going back to an earlier config compiles nothing.
pub const WASM_MODULES_KEPT: usize = 16;
/// WASM instances of the process: each plugin has one on each core, and some more while it is replaced. Each reserves 4 GiB
/// of address space, of which a process has 128 TiB.
pub const WASM_INSTANCES_MAX: u32 = 2048;
/// Bytes of memory that the config may allow one WASM instance.
pub const WASM_MEMORY_BYTES_MAX: usize = 1 << 30;
/// Elements of a WASM module's table of functions: large ones have some thousands.
pub const WASM_TABLE_ELEMENTS_MAX: usize = 16 * 1024;
/// Bytes of stack that a WASM call may use, that of host functions included: a worker's thread has 2 MiB.
pub const WASM_STACK_BYTES_MAX: usize = 512 * 1024;
/// Milliseconds between looks at how long WASM calls take, while there are any: what they exceed their time by at most.
pub const WASM_TICK_MS: u64 = 2;
/// Such looks without a WASM call between them, after which nobody looks until there is one.
pub const WASM_IDLE_TICKS: u32 = 16;
/// Milliseconds of CPU time that a WASM instance may take to start, each of its steps: it happens once on each core.
pub const WASM_START_MS: u64 = 1_000;
/// Requests that one WASM instance has at once: those beyond go the way of a failure.
pub const WASM_STREAMS_MAX: usize = 32 * 1024;
/// Requests of a WASM instance that are over, but for their plugin, which has put their end off; with more the oldest ends. A
/// plugin that never ends them would use up all that the instance may have.
pub const WASM_LINGERING_MAX: usize = 4 * 1024;
/// Instances of one plugin on one core that have failed and end the requests they had; with more the oldest is given up.
pub const WASM_RETIRED_MAX: usize = 4;
/// Failures of a WASM plugin in a row on one core, after which it is switched off: each may have cost all of its time.
pub const WASM_FAILURES_MAX: u32 = 10;
/// Milliseconds between log lines about the failures of one plugin: each of its requests may have a reason for one.
pub const FAILURE_LOG_MS: u64 = 1_000;
/// Header fields of a message as a WASM plugin sees and edits them, with those for the first line.
pub const WASM_FIELDS_MAX: usize = HEADERS_MAX + 16;
/// Bytes of their names and values, with those that were replaced meanwhile.
pub const WASM_FIELDS_BYTES_MAX: usize = 4 * HEAD_BYTES_MAX;
/// Properties that a WASM plugin may set for one request.
pub const WASM_PROPERTIES_MAX: usize = 64;
/// Bytes of one of them, name and value.
pub const WASM_PROPERTY_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a WASM plugin's log line; a longer one is cut.
pub const WASM_LOG_BYTES_MAX: usize = 4 * 1024;
/// Pieces of one line that a WASM plugin writes to its output.
pub const WASM_VECTORS_MAX: usize = 64;
/// Bytes of chance that a WASM plugin gets at once.
pub const WASM_RANDOM_BYTES_MAX: usize = 64 * 1024;
/// Milliseconds of the shortest period of a WASM plugin's timer.
pub const WASM_TICK_PERIOD_MS_MIN: u64 = 10;
/// Bytes that the instances of a WASM module share: keys, values, items of queues.
pub const WASM_SHARED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Keys of the data that they share.
pub const WASM_SHARED_KEYS_MAX: usize = 64 * 1024;
/// Bytes of the name of a queue or a metric of a WASM module.
pub const WASM_SHARED_NAME_BYTES_MAX: usize = 256;
/// Queues of a WASM module.
pub const WASM_QUEUES_MAX: usize = 64;
/// Items in one of them.
pub const WASM_QUEUE_ITEMS_MAX: usize = 4 * 1024;
/// Requests of a WASM instance's own under way at once: as many as an upstream has connections by default.
pub const WASM_CALLS_MAX: usize = 1024;
/// Bytes of the body of such a request, and of its answer: what a question beside a request needs.
pub const WASM_CALL_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the bodies of such requests that one WASM instance has under way: this much is beside the memory that it may have.
pub const WASM_CALL_BODIES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Milliseconds that such a request may take: a plugin that waits for it longer than a request may be paused waits in vain.
pub const WASM_CALL_MS_MAX: u64 = 25_000;
/// Metrics of a WASM module.
pub const WASM_METRICS_MAX: usize = 256;

// Metrics and logs

/// Routes that have a metric cell of their own on each core (1792 bytes each); all further ones share the cell `other`.
pub const ROUTE_CELLS_MAX: usize = 1024;
/// Bytes of a route's pattern that are shown as a metric label; a longer one is cut, for scrapers pay per label byte.
pub const ROUTE_LABEL_BYTES_MAX: usize = 256;
/// Bytes of an upstream's or a server's name that are shown as a metric label: the longest name of a host, with a port, is
/// shorter.
pub const UPSTREAM_LABEL_BYTES_MAX: usize = 264;
/// Cores whose metrics the master keeps, with history; a core id that appears after this many others is not counted.
pub const METRIC_CORES_MAX: usize = 1024;
/// Log lines that wait for the writer thread; beyond it lines are dropped and counted, for a core never waits for stderr.
pub const LOG_LINES_QUEUED_MAX: usize = 16 * 1024;
/// Bytes of access-log lines that a core gathers before it hands them to the writer: some sixty lines, one write.
pub const ACCESS_BATCH_BYTES: usize = 16 * 1024;
/// Milliseconds after which it hands them over though they are fewer: who watches the log sees them as they come.
pub const ACCESS_HAND_OVER_MS: u64 = 200;
/// Handed-over lots of lines of one core that wait for the writer (1 MiB a core); beyond it they are dropped and counted.
pub const ACCESS_BATCHES_QUEUED_MAX: usize = 64;
/// Bytes of a buffer for lines, or for the texts that they are made from, that is kept for reuse.
pub const ACCESS_BUFFER_KEPT_BYTES: usize = 64 * 1024;
/// Bytes of one text in a line of the access log; a longer one is cut, for a client could fill a disk with it.
pub const ACCESS_TEXT_BYTES_MAX: usize = 2 * 1024;
/// Milliseconds that a stop waits for the access log's writer, which may be stuck in a write.
pub const ACCESS_FINISH_MS: u64 = 1_000;
/// Milliseconds that a stop waits for the process log to be written, whose writer may be stuck too.
pub const LOG_FINISH_MS: u64 = 1_000;
const _: () =
    assert!(ACCESS_FINISH_MS + LOG_FINISH_MS < 1000 * SERVICE_STOP_SECS, "the logs are given up before their service");
/// Bytes of a request id that is accepted: UUIDs have 36, AWS's trace ids some 70.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

// What must hold between them

const _: () = assert!(UPSTREAM_SERVERS_MAX * (WEIGHT_MAX as usize) < u32::MAX as usize / 2);
const _: () = assert!(SPLIT_MAX <= UPSTREAMS_MAX);
const _: () = assert!(RESOLVE_MIN_MS <= RESOLVE_HOSTS_MS && RESOLVE_HOSTS_MS <= RESOLVE_MAX_MS);
const _: () = assert!(0 < RESTART_AFTER_MS && RESTART_AFTER_MS <= RESTART_AFTER_MAX_MS);
const _: () = assert!(RESTART_AFTER_MAX_MS < 1000 * RESTART_FORGET_SECONDS);
const _: () = assert!(BEATS_PER_STALL >= 4, "a stall is told of within twice its time");
const _: () = assert!(0 < RESOLVE_RETRY_MIN_MS && RESOLVE_RETRY_MIN_MS <= RESOLVE_RETRY_MAX_MS);
const _: () = assert!(WASM_CALL_BODY_BYTES_MAX <= WASM_CALL_BODIES_BYTES_MAX);
const _: () = assert!(WASM_LINGERING_MAX < WASM_STREAMS_MAX, "requests that are over leave room for others");
const _: () = assert!(WASM_CALL_MS_MAX < WASM_PAUSE_MS, "a plugin hears of a call that failed before its request does");
const _: () = assert!(HEADERS_MAX <= HEAD_BYTES_MAX / 4, "a header field takes at least four bytes (`a:` CRLF)");
const _: () = assert!(CHUNK_LINE_BYTES_MAX < TRAILERS_BYTES_MAX);
const _: () =
    assert!(HEAD_BYTES_MAX <= u16::MAX as usize + 1, "a path is shorter than its head: its offsets fit 16 bits");
const _: () = assert!(ROUTE_PATTERN_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(ROUTES_MAX * (2 * ROUTE_PATTERN_BYTES_MAX + HOST_BYTES_MAX) < u32::MAX as usize);
const _: () = assert!(CHUNK_LINE_BYTES_MAX <= CHUNK_EXTENSIONS_BYTES_MAX, "one full line must be possible");
const _: () = assert!(TRAILERS_BYTES_MAX < u16::MAX as usize, "the chunked decoder counts lines in 16 bits");
const _: () =
    assert!(CHUNK_EXTENSIONS_BYTES_MAX < u16::MAX as usize, "the chunked decoder counts extensions in 16 bits");
const _: () = assert!(TRAILERS_MAX < u8::MAX as usize, "the chunked decoder counts trailers in 8 bits");
const _: () = assert!(LARGE_BUFFER_BYTES < MMAP_THRESHOLD_BYTES as usize, "pooled buffers are no mappings");
const _: () = assert!(COPY_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(ACCESS_BATCH_BYTES < ACCESS_BUFFER_KEPT_BYTES, "a buffer that is handed over comes back");
const _: () = assert!(DISCARD_BYTES_MAX <= LINGER_BYTES_MAX);
const _: () = assert!(SERVICE_START_SECS <= LAUNCH_START_SECS && SERVICE_STOP_SECS <= LAUNCH_STOP_SECS);
/// Bytes of a config file: a hundred thousand routes fit, and a device file given by mistake ends the read.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Symbolic links on the way to a config file: as many as the kernel follows.
pub const LINKS_MAX: usize = 40;
/// Milliseconds without an event after which a changed config file is read: editors write in several steps.
pub const CONFIG_SETTLE_MS: u64 = 100;
/// Milliseconds after the first event in which it is read in any case, however often it is written meanwhile.
pub const CONFIG_SETTLE_MS_MAX: u64 = 1000;
/// Seconds between looks at the config file without an event: network file systems tell of none.
pub const CONFIG_LOOK_SECONDS: u64 = 10;
/// Configs that are kept for requests that began with them, besides the one in force; with more a reload is refused.
pub const GENERATIONS_MAX: usize = 256;
/// Milliseconds that a reload waits for its workers, and for the addresses of servers that are new.
pub const TAKE_UP_MS_MAX: u64 = 5000;
/// Reloads that wait for one that is under way.
pub const RELOADS_WAITING_MAX: usize = 64;
/// Listening sockets that one process hands to the next: every address for every worker, with much to spare.
pub const INHERITED_SOCKETS_MAX: usize = 16 * 1024;
/// Seconds that a successor has until it serves; then it is ended, and this process serves on.
pub const UPGRADE_SECONDS_MAX: u64 = 60;
/// Seconds that a successor which did not come to serve has to end by itself, and as many again to end when it is told to.
pub const UPGRADE_END_SECONDS: u64 = 5;
/// Bytes of an answer that a command takes from an admin listener.
pub const ADMIN_ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Values inside each other in a config file: everything that walks one may recurse.
pub const CONFIG_DEPTH_MAX: usize = 64;
/// Changed heads of one request whose storage is kept for the next one: a plugin that changes a head twice is rare.
pub const EDITED_HEADS_KEPT: usize = 4;
/// Plugins that a request may go through: what takes part in a body is kept as bits of one word.
pub const PLUGINS_PER_ROUTE_MAX: usize = 64;
/// Requests of plugins themselves that one core has under way: each is as dear as a client's, and nobody waits for it.
pub const REPEATS_MAX: usize = 64;
/// Seconds that a cache can count to (RFC 9111 section 1.2.2): as good as for ever.
pub const CACHE_SECONDS_MAX: u32 = 1 << 31;
/// Shards of one cache's store: as many cores as that find each other's locks free, mostly.
pub const CACHE_SHARDS_MAX: usize = 64;
/// Responses to one target that a cache tells apart by `Vary`; beyond it the one that came first goes.
pub const CACHE_VARIANTS_MAX: usize = 64;
/// Requests that wait for one that is under way to the same target; beyond it they go on by themselves.
pub const CACHE_WAITING_MAX: usize = 16 * 1024;
/// Targets of one shard that are being fetched while others wait for them; beyond it nobody waits.
pub const CACHE_FLIGHTS_MAX: usize = 4 * 1024;
/// How often a request waits for another one before it goes on by itself.
pub const CACHE_ROUNDS_MAX: usize = 3;
/// Targets of one shard that are known not to be stored, so that nobody waits for another's answer there.
pub const CACHE_PASSES_MAX: usize = 4 * 1024;
/// Seconds for which that is believed.
pub const CACHE_PASS_SECONDS: u64 = 30;
/// Responses that one core finds without looking into the shared store.
pub const CACHE_NEAR_MAX: usize = 512;
/// Bytes that a stored response takes besides its own: what finds it, and what is known of it.
pub const CACHE_ENTRY_BYTES: usize = 640;
/// Names of plugins that metrics tell apart, over all configs that one process has had; what comes later counts as `other`.
pub const PLUGIN_NAMES_MAX: usize = 256;
/// One request of so many has its hooks' times taken: reading the clock between all of them would cost more than they do.
pub const PLUGIN_TIMED_EVERY: u64 = 64;
/// Networks in each list of an `ip-filter`: the lists of whole countries have some thousands.
pub const IP_FILTER_NETWORKS_MAX: usize = 65_536;
/// Origins, methods or fields in each list of a `cors`: the list is searched for each request.
pub const CORS_NAMES_MAX: usize = 256;
/// Keys that one `rate-limit` may tell apart: some 140 MB of cells, of 16 bytes each.
pub const RATE_KEYS_MAX: usize = 4_000_000;
/// Requests that a `rate-limit` may let through at once: with one an hour, the time until all are back still fits 64 bits.
pub const RATE_BURST_MAX: u32 = 1_000_000;
/// Permits that a core takes ahead: with more, the shared cell is hardly touched less often, and the error grows.
pub const RATE_BATCH_MAX: u32 = 64;
/// Keys of which one core keeps permits, or knows that they have none (32 bytes each); a power of two.
pub const RATE_LEASES_PER_CORE: usize = 1024;
/// Times that a core looks whether another is done with making a cell: many times as long as that takes, unless the other was
/// interrupted in it.
pub const RATE_SPINS_MAX: u32 = 4096;
/// Idle cells that a core tries to take for a new key: one fails when its own key comes back at that very moment.
pub const RATE_CLAIMS_MAX: u32 = 8;
/// Requests that a `concurrency` may allow at once: as many as there may be connections, with much to spare.
pub const CONCURRENCY_MAX: u32 = 1_000_000;
/// Permits that a core takes from the others ahead: with more, the shared count is hardly touched less often.
pub const CONCURRENCY_KEPT_MAX: u32 = 32;
/// Names in each list of a `mirror-log`: the list is searched for each field and parameter of a request.
pub const MIRROR_LOG_NAMES_MAX: usize = 256;
/// Bytes of one body that a `mirror-log` may write: a line is gathered whole, and at most 64 lots of lines wait for the disk.
pub const MIRROR_LOG_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of bodies that a `mirror-log` keeps on one core until their requests end; beyond it bodies are cut.
pub const MIRROR_LOG_KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lists and objects inside each other in a JSON body of which a `mirror-log` hides the secrets.
pub const MIRROR_LOG_DEPTH_MAX: usize = 128;

// Plugins that authenticate

/// Bytes of a file with credentials or keys: a hundred thousand entries fit.
pub const AUTH_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the name of whom a credential belongs to: it is copied for each request.
pub const AUTH_NAME_BYTES_MAX: usize = 256;
/// Bytes of a key in a config: a shorter one can be guessed.
pub const API_KEY_BYTES_MIN: usize = 16;
/// Bytes of a token: it came in a request head, and is decoded for each request.
pub const JWT_BYTES_MAX: usize = 16 * 1024;
/// Lists and objects inside each other in a token or a set of keys: reading them recurses.
pub const JWT_DEPTH_MAX: usize = 16;
/// Keys that a token is held against which does not name its own: each costs a signature's verification.
pub const JWT_KEYS_TRIED_MAX: usize = 4;
/// Tokens that a core knows to be good: each may hold as much as a request head.
pub const JWT_KEPT_MAX: usize = 512;
/// Keys of one set.
pub const JWKS_KEYS_MAX: usize = 64;
/// Bytes of a set of keys from the network: as many as its keys need, certificates included.
pub const JWKS_BYTES_MAX: usize = 512 * 1024;
/// Milliseconds that fetching a set of keys may take.
pub const JWKS_FETCH_MS: u64 = 10_000;
/// Milliseconds after which a set of keys is fetched again that could not be had; twice as long each time.
pub const JWKS_RETRY_MS: u64 = 1_000;
/// Milliseconds that such a wait grows to.
pub const JWKS_RETRY_MAX_MS: u64 = 60_000;
/// Bytes of a name and a password, encoded.
pub const BASIC_CREDENTIALS_BYTES_MAX: usize = 4 * 1024;
/// Names with passwords that a core knows to be right.
pub const BASIC_KEPT_MAX: usize = 4096;
/// Passwords that are hashed at once for one core: each takes a processor for tens of milliseconds, and argon2 its memory.
pub const PASSWORDS_HASHED_MAX: usize = 2;
/// Requests of one core that wait for their password to be hashed: some seconds' worth.
pub const PASSWORDS_WAITING_MAX: usize = 128;
/// The highest cost of bcrypt: 16 takes some seconds already.
pub const BCRYPT_COST_MAX: u32 = 16;
/// KiB that a hash of argon2 may take; each password that is hashed takes so much.
pub const ARGON2_KIB_MAX: u32 = 256 * 1024;
/// Passes over that memory.
pub const ARGON2_PASSES_MAX: u32 = 16;
/// Lanes of it: they are computed one after the other.
pub const ARGON2_LANES_MAX: u32 = 16;
/// Bytes of an answer of `forward-auth` that can be allowed: it is held whole.
pub const FORWARD_AUTH_BODY_BYTES_MAX: usize = 1024 * 1024;
// Content codings

/// Bytes that one call of a decoder makes of a request body: how much of a bomb exists at any time.
pub const DECODED_PIECE_BYTES: usize = 16 * 1024;
/// Codings that a request body may have on top of each other: more is no client that means well.
pub const CODINGS_MAX: usize = 2;
/// Bytes that a request body may decode to whatever its ratio: short ones that repeat themselves have any.
pub const DECODED_FREE_BYTES: u64 = 64 * 1024;
/// Bytes that all decoders of one core may come to for one plugin, if each of them comes to its worst; what would be more is
/// answered with 503.
pub const DECODERS_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a gzip decoder with its window: measured 46 KiB.
pub const GZIP_DECODER_BYTES: u64 = 64 * 1024;
/// Bytes of a decoder of another coding besides its window: tables, and a block.
pub const DECODER_BYTES: u64 = 256 * 1024;
/// Bytes of the largest window that Brotli's format has (RFC 7932 section 9.1).
pub const BROTLI_WINDOW_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Base-2 logarithm of the window of a Zstandard body: 8 MiB, as RFC 9659 has all senders keep to.
pub const ZSTD_DECODER_WINDOW_LOG: u32 = 23;
/// Gzip members of a body besides one for each [`GZIP_MEMBER_BYTES_MIN`] of it: each costs a decoder, and takes but 20 bytes.
pub const GZIP_MEMBERS_FREE: u64 = 64;
/// Bytes of a gzip body for which it may have one more member; real ones (`bgzip`) have thousands.
pub const GZIP_MEMBER_BYTES_MIN: u64 = 1024;
/// Encoders that one core has at work for one plugin; responses beyond it are sent as they are.
pub const ENCODERS_MAX: usize = 256;
/// Encoders of each coding that a core keeps for reuse.
pub const ENCODERS_KEPT: usize = 8;
/// Base-2 logarithm of the window that responses are compressed with by Zstandard: 256 KiB (gzip's is 32 KiB always). More
/// finds little more in what is served by requests, and costs memory for each of them.
pub const ZSTD_ENCODER_WINDOW_LOG: u32 = 18;
/// The same for Brotli: 128 KiB. With twice that it takes 5 MiB at level 6; with half of it its encoder chooses tables of 32 MiB.
pub const BROTLI_ENCODER_WINDOW_LOG: u32 = 17;
/// Base-2 logarithm of the entries of each of Zstandard's two tables, of four bytes each: with its window and buffers that is
/// at most [`ENCODER_BYTES_MAX`] at every level that can be chosen.
pub const ZSTD_TABLE_LOG: u32 = 17;
/// Bytes that one response's encoder takes, at the highest level of its coding: measured 371 KiB with gzip, 2.0 MiB with
/// Zstandard, 3.8 MiB with Brotli.
pub const ENCODER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Patterns of media types that one plugin compares each response's with.
pub const MEDIA_TYPES_MAX: usize = 64;
