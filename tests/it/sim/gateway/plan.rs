//! What a gateway of one seed is to do: its upstreams, their servers, its routes.

use ringfort::handler::{Handler, RouteName, Routes};
use ringfort::http::MethodSet;
use ringfort::proxy::{
    Balance, BreakerSpec, EjectionSpec, HashAlgorithm, HashKey, HealthSpec, HostRewrite, MirrorSpec, PathRewrite,
    PoolSpec, Probe, Proxy, ProxySpec, RetrySpec, ServerAddress, ServerSpec, Target, UpstreamLimits, UpstreamSpec,
    UpstreamTimeouts, Upstreams,
};
use ringfort::router::{Predicates, RouteSpec, RouterBuf};
use ringfort::rt::sim::Random;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// For an exchange in all.
const TOTAL: Duration = Duration::from_secs(6);
/// The same where nothing may fail: the longest bodies take their time through the smallest pipes.
const TOTAL_CALM: Duration = Duration::from_secs(60);
/// For one step of it.
pub(super) const STEP: Duration = Duration::from_secs(1);

const WAY: Duration = Duration::from_secs(5);

/// How well everything goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Servers and the network do as they should, but for those that copies go to: nothing may fail.
    Calm,
    /// The network does as it should; servers do not.
    Fair,
    /// Neither does.
    Foul,
}

/// What the routes do beyond forwarding to one upstream, and what happens to servers meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) weather: Weather,
    /// Of the upstreams that requests are split between.
    pub(super) weights: Vec<u32>,
    /// The share of requests that is copied to the upstream behind those.
    pub(super) mirrored: Option<f64>,
    /// The operator drains servers, and lets them back.
    pub(super) drains: bool,
}

impl Plan {
    /// One upstream, and nothing else.
    pub(super) fn plain() -> Self {
        Self { weather: Weather::Fair, weights: vec![1], mirrored: None, drains: false }
    }

    pub(super) fn random(random: &mut Random) -> Self {
        let weather = *random.pick(&[Weather::Calm, Weather::Fair, Weather::Fair, Weather::Foul]);
        let splits: [&[u32]; 5] = [&[1], &[1], &[1, 1], &[1, 4], &[9, 1]];
        Self {
            weather,
            weights: random.pick(&splits).to_vec(),
            mirrored: random.chance(400).then(|| *random.pick(&[1.0, 0.5])),
            drains: random.chance(500),
        }
    }

    /// What an answer may take: beyond its time, its way through small pipes.
    pub(super) fn patience(&self) -> Duration {
        total(self.weather) + WAY
    }

    /// The upstream that copies go to.
    pub(super) fn mirror(&self) -> Option<usize> {
        self.mirrored.map(|_| self.weights.len())
    }

    pub(super) fn upstreams(&self, random: &mut Random) -> Upstreams {
        let count = self.weights.len() + usize::from(self.mirrored.is_some());
        let weather = |index| if self.mirror() == Some(index) { Weather::Foul } else { self.weather };
        Upstreams::new((0..count).map(|index| upstream(random, index, weather(index))).collect())
    }

    /// Everything below `/p/` is forwarded; below `/t/` it may become a tunnel.
    pub(super) fn routes(&self, upstreams: &Upstreams) -> Arc<Routes> {
        let route =
            |pattern| RouteSpec { host: None, pattern, methods: MethodSet::EMPTY, predicates: Predicates::NONE };
        let patterns = ["/p/:id", "/t/:id"];
        let router = RouterBuf::build(&patterns.map(route)).expect("two paths are no conflict");
        let handler = |upgrade| -> Box<dyn Handler> {
            Box::new(Proxy::new(self.proxy(upgrade), &["id"], upstreams).expect("the path has no template"))
        };
        let names = patterns.map(|label| RouteName { label: label.to_owned(), kind: "proxy" });
        Arc::new(Routes::new(&[], router, vec![handler(false), handler(true)], names.to_vec()))
    }

    fn proxy(&self, upgrade: bool) -> ProxySpec {
        let weights = self.weights.iter().enumerate();
        ProxySpec {
            request_id: None,
            targets: weights.map(|(upstream, &weight)| Target { upstream, weight }).collect(),
            path: PathRewrite::Keep,
            host: HostRewrite::Keep,
            trust: Vec::new(),
            x_forwarded: true,
            forwarded: false,
            via: Some("ringfort".to_owned()),
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            upgrade,
            mirror: self.mirror().zip(self.mirrored).map(|(upstream, share)| MirrorSpec { upstream, share }),
        }
    }
}

/// A server's address.
pub(super) fn address(upstream: usize, server: usize) -> SocketAddr {
    SocketAddr::from(([10, 2, upstream as u8, server as u8 + 1], 80))
}

/// A server as the config names it.
pub(super) fn server(upstream: usize, server: usize) -> ServerSpec {
    ServerSpec { address: ServerAddress::Socket(address(upstream, server)), weight: 1, backup: false, drain: false }
}

fn balance(random: &mut Random) -> Balance {
    let hash = |algorithm| Balance::Hash { algorithm, key: HashKey::Path };
    match random.below(6) {
        0 => Balance::RoundRobin,
        1 => Balance::Random,
        2 => Balance::LeastConn,
        3 => hash(HashAlgorithm::Rendezvous),
        _ => Balance::P2c,
    }
}

fn total(weather: Weather) -> Duration {
    if weather == Weather::Calm { TOTAL_CALM } else { TOTAL }
}

fn upstream(random: &mut Random, index: usize, weather: Weather) -> UpstreamSpec {
    let is_calm = weather == Weather::Calm;
    // What takes servers away, or turns requests away, has no place where nothing may fail.
    let (protected, crowded) = if is_calm { (0, &[100][..]) } else { (500, &[1, 2, 4, 100][..]) };
    let probe = Probe::Http { path: "/healthz".to_owned(), host: None, statuses: vec![Probe::SUCCESS] };
    UpstreamSpec {
        name: format!("api{index}"),
        servers: (0..random.between(1, 3) as usize).map(|number| server(index, number)).collect(),
        balance: balance(random),
        slow_start: Duration::from_secs(random.below(2)),
        pool: PoolSpec {
            idle_per_core: *random.pick(&[0, 1, 4, 4]),
            idle_timeout: *random.pick(&[Duration::from_millis(200), 2 * STEP]),
            age: *random.pick(&[STEP, 100 * STEP]),
            requests: *random.pick(&[2, 1000]),
        },
        timeouts: UpstreamTimeouts {
            connect: STEP / 2,
            // What is sent may be on its way for long, through a small pipe.
            response: if is_calm { TOTAL_CALM / 2 } else { STEP },
            idle: STEP,
            total: total(weather),
        },
        retry: RetrySpec {
            attempts: random.between(1, 3) as u32,
            budget: *random.pick(&[0.2, 1.0]),
            statuses: if random.chance(500) { vec![503] } else { Vec::new() },
        },
        hedge_after: random.chance(200).then_some(STEP / 5),
        health: random.chance(protected).then(|| HealthSpec {
            probe,
            interval: STEP / 3,
            timeout: STEP / 4,
            fall: 2,
            rise: 1,
            ..HealthSpec::default()
        }),
        ejection: random.chance(protected).then(|| EjectionSpec {
            consecutive_failures: 3,
            duration: STEP / 2,
            duration_max: 2 * STEP,
            percent_max: 50,
        }),
        breaker: random.chance(protected).then(|| BreakerSpec { consecutive_failures: 3, open: STEP / 2 }),
        limits: UpstreamLimits { connections: *random.pick(crowded), pending: *random.pick(&[1, 4, 100]) },
    }
}
