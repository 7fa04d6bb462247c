//! Sets of keys that are fetched: on the master's thread, at an interval, and when tokens name a key that is not known.
//! Workers read what was fetched last; a fetch that fails changes nothing.

use std::net::ToSocketAddrs as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::jwks::{Origin, read_jwks};
use super::key::Key;
use crate::clock::{self, Moment};
use crate::http::Status;
use crate::limits::{ADDRESSES_MAX, JWKS_BYTES_MAX, JWKS_FETCH_MS, JWKS_RETRY_MAX_MS, JWKS_RETRY_MS};
use crate::proxy::fetch;
use crate::rt::{self, Postbox, Remote};
use crate::tls::{Client, Name, Roots};

/// What `expected` says of a URL.
pub(super) const URL: &str = "a URL such as \"https://idp.example/jwks.json\" or \"http://127.0.0.1:8081/jwks.json\"";

/// Where a set is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Host and port, as `Host` says it.
    authority: String,
    /// The host alone, without brackets, and the port.
    host: String,
    port: u16,
    /// Path and query.
    target: String,
    /// Whom the server's certificate must name, with `https`.
    name: Option<Name>,
}

impl Url {
    /// A URL of this text.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let url = match text.strip_prefix("https://") {
            Some(rest) => {
                Self::read_rest(rest, 443).and_then(|url| Some(Self { name: Some(Name::read(&url.host)?), ..url }))
            }
            None => text.strip_prefix("http://").and_then(|rest| Self::read_rest(rest, 80)),
        };
        url.ok_or_else(|| URL.to_owned())
    }

    /// Whether the server shows who it is.
    pub(super) fn is_https(&self) -> bool {
        self.name.is_some()
    }

    /// What stands behind the scheme, one without TLS.
    fn read_rest(rest: &str, default_port: u16) -> Option<Self> {
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = if target.is_empty() { "/" } else { target };
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)?),
            _ => (authority, default_port),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        };
        (is_host && is_plain(target)).then(|| Self {
            authority: authority.to_owned(),
            host: bare.unwrap_or(host).to_owned(),
            port,
            target: target.to_owned(),
            name: None,
        })
    }
}

/// A set of keys somewhere else.
pub(in crate::plugin::builtin) struct Source {
    url: Url,
    /// Who may vouch for the server, with `https`; those whom the host trusts where the config names nobody.
    roots: Option<Roots>,
    /// How long a set is kept until it is looked at again.
    refresh: Duration,
    /// How long after a fetch a token with an unknown key may cause another.
    cooldown: Duration,
    keys: Mutex<Arc<Vec<Key>>>,
    /// Grows with each change of the keys; 0: there never were any.
    version: AtomicU64,
    /// Somebody wants a fetch, and it has been told.
    is_asked: AtomicBool,
    /// The plugins that attend it, in their order: the first one fetches for all.
    attending: Mutex<Vec<(u64, Postbox<()>)>>,
    plan: Mutex<Plan>,
}

/// When a set is fetched next. Outlasts the plugin that fetches.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Not before, whoever asks.
    earliest: Moment,
    /// Then, if nobody asks.
    due: Moment,
    /// How long after a failure it is tried again.
    retry: Duration,
    /// The last one was no failure.
    is_well: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let at_once = Moment::from_nanos(0);
        Self { earliest: at_once, due: at_once, retry: Duration::from_millis(JWKS_RETRY_MS), is_well: true }
    }
}

/// A place among those that attend a set, while it lasts.
struct Place {
    source: Arc<Source>,
    number: u64,
}

impl Place {
    fn is_first(&self) -> bool {
        lock(&self.source.attending).first().is_some_and(|(number, _)| *number == self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut attending = lock(&self.source.attending);
        let Some(left) = attending.iter().position(|(number, _)| *number == self.number) else { return };
        attending.remove(left);
        // It waits for nothing but to be the first. To one that is first already it would say that keys are wanted.
        if let (0, Some((_, next))) = (left, attending.first()) {
            let _ = next.post(());
        }
    }
}

/// Those in use: a plugin that is made anew on a reload goes on with the keys that were fetched.
static KNOWN: Mutex<Vec<Weak<Source>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// The one of this URL, these authorities and these times, whether it is in use already or not.
    pub(super) fn of(url: Url, roots: Option<Roots>, refresh: Duration, cooldown: Duration) -> Arc<Self> {
        let mut known = lock(&KNOWN);
        known.retain(|source| source.strong_count() > 0);
        let is_same = |source: &Arc<Self>| {
            source.url == url && source.roots == roots && (source.refresh, source.cooldown) == (refresh, cooldown)
        };
        if let Some(same) = known.iter().filter_map(Weak::upgrade).find(is_same) {
            return same;
        }
        let source = Arc::new(Self {
            url,
            roots,
            refresh,
            cooldown,
            keys: Mutex::default(),
            version: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            attending: Mutex::default(),
            plan: Mutex::default(),
        });
        known.push(Arc::downgrade(&source));
        source
    }

    /// Which keys there are: a number that grows when they change.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The keys; takes a lock, so only where the version has changed.
    pub(super) fn keys(&self) -> Arc<Vec<Key>> {
        lock(&self.keys).clone()
    }

    /// Puts these in place of those that there are.
    pub(super) fn replace(&self, keys: Vec<Key>) {
        let mut known = lock(&self.keys);
        if **known != keys {
            *known = Arc::new(keys);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Wants the keys fetched soon: a token names one that is not known. The first of many costs a message, the others
    /// nothing.
    pub(super) fn ask(&self) {
        if self.is_asked.load(Ordering::Relaxed) || self.is_asked.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some((_, bell)) = lock(&self.attending).first() {
            // Full: it has been told already.
            let _ = bell.post(());
        }
    }

    /// Fetches the keys again and again, as long as nobody else does it.
    pub(super) async fn attend(self: Arc<Self>) {
        let (bell, asked) = rt::mailbox(1);
        let place = self.clone().enter(bell);
        while !place.is_first() {
            asked.next().await;
        }
        loop {
            let plan = *lock(&self.plan);
            rt::sleep_until(plan.earliest).await;
            // It may have been said to one that is gone.
            if !self.is_asked.load(Ordering::Relaxed) {
                rt::select(rt::sleep_until(plan.due), asked.next()).await;
            }
            self.is_asked.store(false, Ordering::Relaxed);
            let fetched = self.fetch().await;
            *lock(&self.plan) = self.next(plan, fetched, clock::now());
        }
    }

    /// Behind those that attend it already.
    fn enter(self: Arc<Self>, bell: Postbox<()>) -> Place {
        let mut attending = lock(&self.attending);
        let number = attending.last().map_or(0, |(last, _)| last + 1);
        attending.push((number, bell));
        drop(attending);
        Place { source: self, number }
    }

    /// What is done after this.
    fn next(&self, plan: Plan, fetched: Result<(), String>, now: Moment) -> Plan {
        let start = Duration::from_millis(JWKS_RETRY_MS);
        let (pause, retry, is_well) = match fetched {
            Ok(()) => {
                if !plan.is_well {
                    tracing::info!(url = self.shown(), "the keys can be fetched again");
                }
                (self.refresh, start, true)
            }
            Err(error) => {
                if plan.is_well {
                    tracing::warn!(url = self.shown(), %error, "the keys cannot be fetched; those that there are stay");
                }
                let longer = (plan.retry * 2).min(Duration::from_millis(JWKS_RETRY_MAX_MS));
                (plan.retry.min(self.refresh), longer, false)
            }
        };
        Plan { earliest: now + self.cooldown.min(pause), due: now + pause, retry, is_well }
    }

    fn shown(&self) -> String {
        let scheme = if self.url.is_https() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.url.authority, self.url.target)
    }

    async fn fetch(&self) -> Result<(), String> {
        let until = clock::now() + Duration::from_millis(JWKS_FETCH_MS);
        let Url { authority, host, port, target, name } = self.url.clone();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/jwk-set+json, application/json\r\nUser-Agent: ringfort-jwks\r\n\
             Connection: close\r\n\r\n"
        );
        let tls = match name {
            Some(name) => Some((rt::timeout(until, self.client()).await.ok_or(LATE)??, name)),
            None => None,
        };
        let tls = tls.as_ref().map(|(client, name)| (client, name));
        let found =
            rt::timeout(until, rt::blocking(move || (&*host, port).to_socket_addrs().map(Vec::from_iter))).await;
        let mut addresses = found.ok_or("its name was not resolved in time")?.map_err(|error| error.to_string())?;
        addresses.truncate(ADDRESSES_MAX);
        let mut failures = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            // One that does not answer leaves time for the others.
            let now = clock::now();
            let until = now + until.since(now) / (addresses.len() - index) as u32;
            match fetch(&Remote::Tcp(*address), tls, request.as_bytes(), JWKS_BYTES_MAX, until).await {
                Ok((Status::OK, body)) => {
                    self.replace(read_jwks(&body, Origin::Network).map_err(|found| format!("it sent {found}"))?);
                    return Ok(());
                }
                Ok((status, _)) => return Err(format!("it answered {}", status.code())),
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        Err(if failures.is_empty() { "its name has no address".to_owned() } else { failures.join("; ") })
    }

    /// One that trusts whom it should at this moment: the host's list changes while the server runs.
    async fn client(&self) -> Result<Client, String> {
        match &self.roots {
            Some(roots) => Ok(Client::new(roots)),
            None => match rt::blocking(Roots::of_host).await {
                Ok(roots) => Ok(Client::new(&roots)),
                Err(error) => Err(format!("{error}, or in \"jwks_ca\"")),
            },
        }
    }
}

const LATE: &str = "the certificates that this host trusts were not read in time";
