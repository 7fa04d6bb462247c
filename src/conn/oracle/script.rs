//! A script out of arbitrary bytes: six bytes that build the world, then what the client sends.
//!
//! Bytes stand for themselves, so that a dictionary of HTTP words fits, but for [`ESCAPE`]: it and the byte behind it are an
//! order, with an argument where the table says so. `fuzz/README.md` shows the same table to people.
//!
//! | order | argument | meaning |
//! |---|---|---|
//! | `p` | n | send what is gathered, then pause for 4 n ms; 250 and more: longer than any time-out |
//! | `s` | n | stop reading for 2 n ms; 250 and more: longer than any time-out |
//! | `f` | n, byte | many of this byte: [`FILLS`]`[n]` of them |
//! | `h` | | end the sending side and read on; the script ends |
//! | `r`, `c`, `v` | | reset, close, vanish; the script ends |
//! | `d` | | the core begins to drain |
//! | anything else | | a byte 0xff, and the other byte for itself |

use std::time::Duration;

use crate::conn::{Observing, Rates, Settings, Timeouts};
use crate::http::HeadLimits;
use crate::rt::sim::{CoreOptions, Faults, Style};

/// Introduces an order.
const ESCAPE: u8 = 0xff;
/// Longer than everything else can take together.
pub(super) const LONG: Duration = Duration::from_secs(120);
/// Every time-out. Far above the sum of what a script and the world's faults can make a wait last without meaning to.
const TIMEOUT: Duration = Duration::from_secs(10);
/// All short pauses of a script together, at most; a lingering close must outlast them.
const PAUSES_MAX: Duration = Duration::from_secs(1);
/// The same for short stops of reading.
const STALLS_MAX: Duration = Duration::from_millis(400);
/// Bytes of fillings.
const FILLS: [usize; 8] = [10, 60, 300, 1100, 4100, 9000, 17_000, 70_000];
/// Bytes that a client sends in all, at most.
const STREAM_BYTES_MAX: usize = 400 * 1024;

/// Pieces that the bytes of a script come in, roughly.
const PIECES_MAX: usize = 300;

/// What the client does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Send(Vec<u8>),
    Pause(Duration),
    /// Stop reading for so long.
    Stall(Duration),
    Drain,
    End(Ending),
}

/// How the client's side ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It says nothing more.
    Silence,
    HalfClose,
    Reset,
    Close,
    Vanish,
}

/// One run.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) core: CoreOptions,
    pub(super) faults: Faults,
    pub(super) latency_max_ms: u64,
    pub(super) pipe_bytes_max: usize,
    pub(super) settings: Settings,
    /// Ends with an [`Act::End`].
    pub(super) acts: Vec<Act>,
}

impl Script {
    pub(super) fn decode(data: &[u8]) -> Self {
        let (world, rest) = data.split_at(data.len().min(6));
        let world: [u8; 6] = std::array::from_fn(|at| world.get(at).copied().unwrap_or(0));
        let [seed_low, seed_high, core, faults, settings, network] = world.map(usize::from);
        let core = CoreOptions {
            style: if core & 1 == 0 { Style::Multishot } else { Style::Readiness },
            buffers: [1, 2, 3, 8, 64, 64, 64, 64][core >> 1 & 7],
            buffer_bytes: [4096, 4096, 1024, 100, 16, 7, 1, 4096][core >> 4 & 7],
        };
        let faults = Faults {
            spurious_polls: [0, 10, 50, 200][faults & 3],
            pauses: [0, 1, 5, 20][faults >> 2 & 3],
            short_sends: [0, 100, 500, 900][faults >> 4 & 3],
            refused_sends: [0, 20, 200, 200][faults >> 6 & 3],
            failed_accepts: [0, 0, 100, 500][faults >> 5 & 3],
            ..Faults::default()
        };
        Self {
            seed: (seed_high << 8 | seed_low) as u64,
            core,
            faults,
            latency_max_ms: [1, 2][network & 1],
            pipe_bytes_max: [64 * 1024, 64, 300, 4000][network >> 1 & 3],
            settings: settings_of(settings),
            acts: acts(rest),
        }
    }

    /// A script that moves many bytes in all gets a world that moves them in few pieces: thousands show nothing that
    /// hundreds do not, and take a fuzzer's time from other scripts.
    pub(super) fn hasten(&mut self, bytes: usize) {
        let piece = self.core.buffer_bytes.min(self.pipe_bytes_max);
        if bytes / piece > PIECES_MAX {
            self.core.buffer_bytes = 4096;
            self.pipe_bytes_max = 64 * 1024;
            self.faults.spurious_polls = self.faults.spurious_polls.min(10);
        }
    }

    /// How the client's side ends.
    pub(super) fn ending(&self) -> Ending {
        match self.acts.last() {
            Some(Act::End(ending)) => *ending,
            _ => Ending::Silence,
        }
    }

    /// The bytes of the acts in `acts`.
    pub(super) fn stream(acts: &[Act]) -> Vec<u8> {
        let sent = acts.iter().filter_map(|act| match act {
            Act::Send(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        sent.collect::<Vec<_>>().concat()
    }
}

fn settings_of(bits: usize) -> Settings {
    let narrow = HeadLimits { head: 256, headers: 4, target: 64 };
    Settings {
        head: if bits & 1 == 0 { HeadLimits::default() } else { narrow },
        body: [64 * 1024, 16, 300 * 1024, 1000][bits >> 1 & 3],
        connections: [1, 100][bits >> 7 & 1],
        timeouts: Timeouts {
            head: TIMEOUT,
            body: TIMEOUT,
            body_total: TIMEOUT,
            idle: TIMEOUT,
            write: TIMEOUT,
            write_total: TIMEOUT,
        },
        // No script waits for as long as the time before a rate counts.
        rates: Rates::default(),
        keepalive_requests: [1000, 1000, 1, 3][bits >> 3 & 3],
        keepalive_age: if bits >> 5 & 1 == 0 { Duration::from_secs(3600) } else { Duration::ZERO },
        server_name: (bits >> 6 & 1 == 1).then(|| "ringfort".to_owned()),
        observing: Observing::default(),
    }
}

fn acts(mut rest: &[u8]) -> Vec<Act> {
    let (mut acts, mut gathered, mut sent) = (Vec::new(), Vec::new(), 0);
    let (mut pauses_left, mut stalls_left) = (PAUSES_MAX, STALLS_MAX);
    let spend = |left: &mut Duration, wanted: Duration| {
        let taken = wanted.min(*left);
        *left -= taken;
        taken
    };
    let mut ending = Ending::Silence;
    while let Some((&first, behind)) = rest.split_first() {
        let plain = (first != ESCAPE).then_some(first);
        let Some(&order) = behind.first().filter(|_| plain.is_none()) else {
            gathered.push(first);
            rest = behind;
            continue;
        };
        let argument = |at: usize| behind.get(at).copied().unwrap_or(0);
        let (act, used) = match order {
            b'p' if argument(1) >= 250 => (Act::Pause(LONG), 2),
            b'p' => (Act::Pause(spend(&mut pauses_left, Duration::from_millis(4 * u64::from(argument(1))))), 2),
            b's' if argument(1) >= 250 => (Act::Stall(LONG), 2),
            b's' => (Act::Stall(spend(&mut stalls_left, Duration::from_millis(2 * u64::from(argument(1))))), 2),
            b'f' => {
                let count = FILLS[usize::from(argument(1)) % FILLS.len()];
                let room = STREAM_BYTES_MAX.saturating_sub(sent + gathered.len());
                gathered.extend(std::iter::repeat_n(argument(2), count.min(room)));
                rest = behind.get(3..).unwrap_or_default();
                continue;
            }
            b'd' => (Act::Drain, 1),
            b'h' | b'r' | b'c' | b'v' => {
                ending = match order {
                    b'h' => Ending::HalfClose,
                    b'r' => Ending::Reset,
                    b'c' => Ending::Close,
                    _ => Ending::Vanish,
                };
                break;
            }
            _ => {
                gathered.push(ESCAPE);
                rest = behind;
                continue;
            }
        };
        sent += gathered.len();
        acts.extend([Act::Send(std::mem::take(&mut gathered)), act]);
        rest = behind.get(used..).unwrap_or_default();
    }
    acts.extend([Act::Send(gathered), Act::End(ending)]);
    acts.retain(|act| !matches!(act, Act::Send(bytes) if bytes.is_empty()));
    acts
}
