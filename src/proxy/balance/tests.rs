//! Every policy through [`Balancer`]: the rules that all share, and what each promises of its shares.

use super::*;
use crate::limits::{BALANCE_DRAWS_MAX, LATENCY_DECAY_SECS};
use crate::proxy::spec::{HashKey, ServerAddress};
use proptest::prelude::*;
use std::cell::Cell;

const START: Moment = Moment::from_nanos(1_000_000_000_000);

/// Servers that are whatever a test makes them.
struct Fakes {
    available: Vec<bool>,
    in_flight: Vec<u32>,
    latency: Vec<PeakEwma>,
    since: Vec<Option<Moment>>,
    looks: Cell<u32>,
}

impl Fakes {
    fn new(servers: usize) -> Self {
        Self {
            available: vec![true; servers],
            in_flight: vec![0; servers],
            latency: vec![PeakEwma::new(); servers],
            since: vec![None; servers],
            looks: Cell::new(0),
        }
    }

    /// All have answered as fast as each other.
    fn tested(servers: usize, now: Moment) -> Self {
        let mut fakes = Self::new(servers);
        fakes.latency.iter_mut().for_each(|latency| latency.record(Duration::from_millis(1), now));
        fakes
    }
}

impl Servers for Fakes {
    fn len(&self) -> usize {
        self.available.len()
    }
    fn is_available(&self, server: usize) -> bool {
        self.looks.set(self.looks.get() + 1);
        self.available[server]
    }
    fn in_flight(&self, server: usize) -> u32 {
        self.in_flight[server]
    }
    fn latency(&self, server: usize) -> &PeakEwma {
        &self.latency[server]
    }
    fn available_since(&self, server: usize) -> Option<Moment> {
        self.since[server]
    }
}

fn hash(algorithm: HashAlgorithm) -> Balance {
    Balance::Hash { algorithm, key: HashKey::Path }
}

fn policies() -> [Balance; 6] {
    let hashes = [hash(HashAlgorithm::Rendezvous), hash(HashAlgorithm::Maglev)];
    let [rendezvous, maglev] = hashes;
    [Balance::RoundRobin, Balance::Random, Balance::LeastConn, Balance::P2c, rendezvous, maglev]
}

/// A server of each weight, with addresses that differ; those in `backups` are backups.
fn upstream(balance: Balance, weights: &[u32], backups: &[usize]) -> UpstreamSpec {
    let server = |(index, weight): (usize, &u32)| ServerSpec {
        address: ServerAddress::Name { host: format!("server-{index}"), port: 80 },
        weight: *weight,
        backup: backups.contains(&index),
        drain: false,
    };
    UpstreamSpec {
        name: "api".to_owned(),
        servers: weights.iter().enumerate().map(server).collect(),
        balance,
        slow_start: Duration::ZERO,
        pool: Default::default(),
        timeouts: Default::default(),
        retry: Default::default(),
        hedge_after: None,
        health: None,
        ejection: None,
        breaker: None,
        limits: Default::default(),
    }
}

fn key(number: u64) -> Option<u64> {
    Some(hash_key(format!("key-{number}").as_bytes()))
}

/// How often each is picked, in percent.
fn shares(balancer: &mut Balancer, servers: &Fakes, now: Moment, picks: u64) -> Vec<f64> {
    let mut counts = vec![0_u64; servers.len()];
    for number in 0..picks {
        counts[balancer.pick(servers, key(number), now).unwrap()] += 1;
    }
    counts.iter().map(|count| *count as f64 * 100.0 / picks as f64).collect()
}

#[track_caller]
fn assert_near(shares: &[f64], expected: &[f64], tolerance: f64) {
    let is_near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() <= tolerance);
    assert!(is_near && shares.len() == expected.len(), "{shares:?} instead of {expected:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 32 }))]

    #[test]
    fn the_pick_is_available_if_anything_is_and_a_backup_only_if_no_primary_is(
        states in prop::collection::vec((1_u32..100, any::<bool>(), any::<bool>(), 0_u32..5, prop::option::of(0_u64..20)), 1..12),
        seed: u64, slow_start in 0_u64..10,
    ) {
        for balance in policies() {
            let weights: Vec<u32> = states.iter().map(|state| state.0).collect();
            let backups: Vec<usize> = (0..states.len()).filter(|index| states[*index].1).collect();
            let mut spec = upstream(balance, &weights, &backups);
            spec.slow_start = Duration::from_secs(slow_start);
            let mut balancer = Balancer::new(&spec, seed);
            let mut servers = Fakes::new(states.len());
            for (index, state) in states.iter().enumerate() {
                servers.available[index] = state.2;
                servers.in_flight[index] = state.3;
                servers.since[index] = state.4.map(|seconds| START + Duration::from_secs(seconds));
                if state.3 % 2 == 1 {
                    servers.latency[index].record(Duration::from_micros(u64::from(state.0)), START);
                }
            }
            let is_there = |wanted: bool| (0..states.len()).any(|index| states[index].2 && states[index].1 == wanted);
            for number in 0..20 {
                let now = START + Duration::from_millis(number * 700);
                match balancer.pick(&servers, key(number).filter(|_| number % 4 != 0), now) {
                    None => prop_assert!(!is_there(true) && !is_there(false)),
                    Some(picked) => {
                        prop_assert!(servers.available[picked]);
                        prop_assert_eq!(states[picked].1, !is_there(false), "a backup: {}", picked);
                    }
                }
            }
        }
    }

    #[test]
    fn round_robin_is_exact_over_every_cycle(weights in prop::collection::vec(1_u32..30, 1..10), seed: u64) {
        let mut balancer = Balancer::new(&upstream(Balance::RoundRobin, &weights, &[]), seed);
        let servers = Fakes::new(weights.len());
        for _ in 0..3 {
            let mut counts = vec![0; weights.len()];
            for _ in 0..weights.iter().sum() {
                counts[balancer.pick(&servers, None, START).unwrap()] += 1;
            }
            prop_assert_eq!(&counts, &weights);
        }
    }

    #[test]
    fn least_conn_picks_a_server_with_the_least_for_its_weight(
        loads in prop::collection::vec((1_u32..50, 0_u32..50), 1..20), seed: u64,
    ) {
        let weights: Vec<u32> = loads.iter().map(|load| load.0).collect();
        let mut balancer = Balancer::new(&upstream(Balance::LeastConn, &weights, &[]), seed);
        let mut servers = Fakes::new(loads.len());
        servers.in_flight = loads.iter().map(|load| load.1).collect();
        let (weight, in_flight) = loads[balancer.pick(&servers, None, START).unwrap()];
        prop_assert!(loads.iter().all(|load| in_flight * load.0 <= load.1 * weight));
    }

    #[test]
    fn a_key_goes_to_the_same_server_on_every_core_and_leaving_servers_move_only_their_own(
        weights in prop::collection::vec(1_u32..10, 2..12), gone in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        for algorithm in [HashAlgorithm::Rendezvous, HashAlgorithm::Maglev] {
            let mut balancer = Balancer::new(&upstream(hash(algorithm), &weights, &[]), 1);
            let mut other_core = balancer.for_core(2);
            let mut servers = Fakes::new(weights.len());
            let before: Vec<_> = (0..200).map(|number| balancer.pick(&servers, key(number), START).unwrap()).collect();
            gone.iter().for_each(|gone| servers.available[gone.index(weights.len())] = false);
            for (number, before) in before.iter().enumerate() {
                let after = balancer.pick(&servers, key(number as u64), START);
                prop_assert_eq!(other_core.pick(&servers, key(number as u64), START), after);
                if servers.available[*before] {
                    prop_assert_eq!(after, Some(*before));
                }
            }
        }
    }

    #[test]
    fn rendezvous_moves_only_the_keys_of_a_server_that_leaves_the_config(
        weights in prop::collection::vec(1_u32..10, 2..12), gone: prop::sample::Index,
    ) {
        let spec = upstream(hash(HashAlgorithm::Rendezvous), &weights, &[]);
        let mut less = spec.clone();
        less.servers.remove(gone.index(weights.len()));
        // Nor does the order matter.
        less.servers.reverse();
        let (mut before, mut after) = (Balancer::new(&spec, 1), Balancer::new(&less, 1));
        for number in 0..200 {
            let was = &spec.servers[before.pick(&Fakes::new(weights.len()), key(number), START).unwrap()];
            if *was != spec.servers[gone.index(weights.len())] {
                let is = &less.servers[after.pick(&Fakes::new(less.servers.len()), key(number), START).unwrap()];
                prop_assert_eq!(is, was);
            }
        }
    }

    #[test]
    fn a_share_in_slow_start_rises_from_a_tenth_to_the_whole(elapsed in 0_u64..1 << 40, more in 0_u64..1 << 40, all in 1_u64..1 << 40) {
        let share = |nanos| rising_share(Duration::from_nanos(nanos), Duration::from_nanos(all));
        prop_assert!((SHARE_START..=SHARE_WHOLE).contains(&share(elapsed)));
        prop_assert!(share(elapsed) <= share(elapsed + more));
        prop_assert_eq!((share(0), share(all)), (SHARE_START, SHARE_WHOLE));
        let exact = (0.1 + 0.9 * (elapsed as f64 / all as f64).min(1.0)) * SHARE_WHOLE as f64;
        prop_assert!((share(elapsed) as f64 - exact).abs() <= 1.5);
    }
}

#[test]
fn weighted_policies_keep_to_the_weights_of_those_that_are_available() {
    for balance in [
        Balance::RoundRobin,
        Balance::Random,
        Balance::LeastConn,
        hash(HashAlgorithm::Rendezvous),
        hash(HashAlgorithm::Maglev),
    ] {
        let mut balancer = Balancer::new(&upstream(balance, &[1, 2, 3, 4, 10], &[]), 5);
        let mut servers = Fakes::new(5);
        assert_near(&shares(&mut balancer, &servers, START, 40_000), &[5.0, 10.0, 15.0, 20.0, 50.0], 1.0);
        servers.available[4] = false;
        assert_near(&shares(&mut balancer, &servers, START, 40_000), &[10.0, 20.0, 30.0, 40.0, 0.0], 1.0);
        servers.available[..3].fill(false);
        assert_near(&shares(&mut balancer, &servers, START, 100), &[0.0, 0.0, 0.0, 100.0, 0.0], 0.0);
    }
}

#[test]
fn few_available_servers_of_many_share_by_weight_too() {
    let weights: Vec<u32> = (0..200).map(|index| 1 + index % 3).collect();
    for balance in [Balance::Random, hash(HashAlgorithm::Maglev)] {
        let mut balancer = Balancer::new(&upstream(balance, &weights, &[]), 5);
        let mut servers = Fakes::new(200);
        servers.available = (0..200).map(|index| (30..33).contains(&index)).collect();
        let shares = shares(&mut balancer, &servers, START, 20_000);
        assert_near(&shares[30..33], &[100.0 / 6.0, 200.0 / 6.0, 50.0], 1.5);
    }
}

#[test]
fn cores_do_not_all_begin_with_the_same_server() {
    for balance in [Balance::RoundRobin, Balance::LeastConn, Balance::Random, Balance::P2c] {
        let balancer = Balancer::new(&upstream(balance, &[1; 8], &[]), 0);
        let first = (0..400).map(|core| balancer.for_core(core).pick(&Fakes::new(8), None, START).unwrap());
        let mut counts = [0; 8];
        first.for_each(|first| counts[first] += 1);
        assert!(counts.iter().all(|count| (25..=80).contains(count)), "{counts:?}");
    }
}

#[test]
fn an_address_that_is_listed_twice_gets_keys_twice() {
    for algorithm in [HashAlgorithm::Rendezvous, HashAlgorithm::Maglev] {
        let mut spec = upstream(hash(algorithm), &[1, 1, 1], &[]);
        spec.servers[2] = spec.servers[1].clone();
        let shares = shares(&mut Balancer::new(&spec, 1), &Fakes::new(3), START, 20_000);
        assert_near(&shares, &[33.3, 33.3, 33.3], 1.5);
    }
}

#[test]
fn slow_start_gives_a_server_a_tenth_at_first_and_half_of_its_share_on_the_way() {
    let slow_start = Duration::from_secs(90);
    for balance in [
        Balance::RoundRobin,
        Balance::Random,
        Balance::LeastConn,
        hash(HashAlgorithm::Rendezvous),
        hash(HashAlgorithm::Maglev),
    ] {
        let mut spec = upstream(balance, &[1, 1, 2], &[]);
        spec.slow_start = slow_start;
        let mut balancer = Balancer::new(&spec, 5);
        let mut servers = Fakes::new(3);
        servers.since[2] = Some(START);
        for (seconds, weight) in [(0, 0.2), (40, 1.0), (90, 2.0)] {
            let shares = shares(&mut balancer, &servers, START + Duration::from_secs(seconds), 40_000);
            // By Maglev it takes that part of the keys that are its own: a share of the keys, not a weight among others.
            let own = 100.0 * weight / (2.0 + weight);
            let own = if spec.balance == hash(HashAlgorithm::Maglev) { 25.0 * weight } else { own };
            assert!((shares[2] - own).abs() < 1.5, "{:?} after {seconds}: {shares:?}, expected {own}", spec.balance);
        }
        servers.available[..2].fill(false);
        assert_eq!(balancer.pick(&servers, key(1), START), Some(2), "alone it gets everything");
    }
}

#[test]
fn slow_start_only_moves_keys_to_the_server_that_starts() {
    for algorithm in [HashAlgorithm::Rendezvous, HashAlgorithm::Maglev] {
        let mut spec = upstream(hash(algorithm), &[1, 1, 2], &[]);
        spec.slow_start = Duration::from_secs(100);
        let mut balancer = Balancer::new(&spec, 5);
        let mut servers = Fakes::new(3);
        servers.since[2] = Some(START);
        let mut last: Vec<_> = (0..500).map(|number| balancer.pick(&servers, key(number), START)).collect();
        for seconds in (5..=100).step_by(5) {
            for (number, last) in last.iter_mut().enumerate() {
                let picked = balancer.pick(&servers, key(number as u64), START + Duration::from_secs(seconds));
                assert!(picked == *last || picked == Some(2));
                *last = picked;
            }
        }
    }
}

#[test]
fn p2c_looks_at_two_servers_of_two_hundred() {
    for weights in [vec![1; 200], (0..200).map(|index| 1 + index % 7).collect()] {
        let mut balancer = Balancer::new(&upstream(Balance::P2c, &weights, &[]), 3);
        let servers = Fakes::tested(200, START);
        for number in 0..10_000 {
            servers.looks.set(0);
            balancer.pick(&servers, None, START + Duration::from_micros(number)).unwrap();
            assert!(servers.looks.get() <= 2 * BALANCE_DRAWS_MAX);
        }
        servers.looks.set(0);
        assert!((0..10_000).all(|_| balancer.pick(&servers, None, START).is_some()));
        assert!((20_000..21_000).contains(&servers.looks.get()), "{} looks", servers.looks.get());
    }
}

#[test]
fn p2c_shares_evenly_between_equals_and_never_takes_the_worst() {
    let mut balancer = Balancer::new(&upstream(Balance::P2c, &[1; 8], &[]), 3);
    let mut servers = Fakes::tested(8, START);
    assert_near(&shares(&mut balancer, &servers, START, 40_000), &[12.5; 8], 1.0);
    servers.in_flight[3] = 1;
    assert_eq!(shares(&mut balancer, &servers, START, 10_000)[3], 0.0);
    servers.in_flight[3] = 0;
    servers.latency[5].record(Duration::from_millis(2), START);
    assert_eq!(shares(&mut balancer, &servers, START, 10_000)[5], 0.0);
}

/// Requests arrive faster than one server could answer; each server answers after what it takes for all it has.
#[test]
fn p2c_loads_servers_by_weight_when_there_is_load() {
    let weights = [1, 2, 4];
    let mut balancer = Balancer::new(&upstream(Balance::P2c, &weights, &[]), 3);
    let mut servers = Fakes::tested(3, START);
    let mut picked = std::collections::VecDeque::new();
    let mut counts = [0; 3];
    for number in 0..20_000_u64 {
        let now = START + Duration::from_micros(10 * number);
        let server = balancer.pick(&servers, None, now).unwrap();
        servers.in_flight[server] += 1;
        counts[server] += 1;
        picked.push_back((server, now));
        if picked.len() > 70 {
            let (done, began) = picked.pop_front().unwrap();
            servers.in_flight[done] -= 1;
            servers.latency[done].record(now.since(began), now);
        }
    }
    let shares: Vec<f64> = counts.iter().map(|count| f64::from(*count) / 200.0).collect();
    assert_near(&shares, &[100.0 / 7.0, 200.0 / 7.0, 400.0 / 7.0], 2.0);
}

#[test]
fn p2c_tries_a_new_server_once_and_then_loads_it_like_the_others() {
    let mut balancer = Balancer::new(&upstream(Balance::P2c, &[1, 1], &[]), 3);
    let mut servers = Fakes::new(2);
    servers.latency[0].record(Duration::from_millis(1), START);
    assert_eq!(balancer.pick(&servers, None, START), Some(1));
    servers.in_flight[1] = 1;
    for _ in 0..100 {
        let server = balancer.pick(&servers, None, START).unwrap();
        servers.in_flight[server] += 1;
    }
    assert!(servers.in_flight[0].abs_diff(servers.in_flight[1]) <= 2, "{:?}", servers.in_flight);
    // One that never answers is preferred again after a while, once.
    let later = START + Duration::from_secs(LATENCY_DECAY_SECS);
    servers.in_flight = vec![0, 50];
    servers.latency[0].record(Duration::from_millis(1), later);
    assert_eq!(balancer.pick(&servers, None, later), Some(1));
    assert_eq!(balancer.pick(&servers, None, later), Some(0));
}

#[test]
fn p2c_tries_a_server_again_that_was_slow_once_and_does_not_flood_it() {
    let mut balancer = Balancer::new(&upstream(Balance::P2c, &[1, 1], &[]), 3);
    let mut servers = Fakes::tested(2, START);
    servers.latency[1].record(Duration::from_secs(1), START);
    // A second sinks to a millisecond in ln(1000) time constants.
    let due = START + Duration::from_secs_f64(LATENCY_DECAY_SECS as f64 * 1000_f64.ln());
    let mut picks = 0;
    for tenth in 0..1_000 {
        let now = START + Duration::from_millis(100 * tenth);
        servers.latency[0].record(Duration::from_millis(1), now);
        if balancer.pick(&servers, None, now) == Some(1) {
            picks += 1;
            let wait = now.since(due).max(due.since(now));
            assert!(wait <= Duration::from_millis(200), "{wait:?} from when it was due");
        }
    }
    assert_eq!(picks, 1);
}

#[test]
fn a_view_of_fewer_servers_than_the_spec_has_is_no_panic() {
    for balance in policies() {
        let mut balancer = Balancer::new(&upstream(balance.clone(), &[1, 1, 1], &[]), 3);
        assert!((0..50).all(|number| balancer.pick(&Fakes::new(1), key(number), START) == Some(0)));
        assert_eq!(balancer.pick(&Fakes::new(0), None, START), None);
        assert_eq!(Balancer::new(&upstream(balance, &[], &[]), 3).pick(&Fakes::new(0), None, START), None);
    }
}
