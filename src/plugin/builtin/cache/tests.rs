//! Tests of the store: look-ups, room, and those who wait.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use proptest::prelude::*;

use super::entry::{Entry, Record};
use super::flight::{Flight, Landing};
use super::freshness::{Freshness, Stale};
use super::near::Near;
use super::options::Options;
use super::store::{Fetching, Lookup, Purpose, Store};
use super::vary::{Selected, Snapshot};
use crate::clock::Moment;
use crate::http::{Fields, Head, HeadLimits, Parse, RequestHead, Status, parse_head};
use crate::plugin::{Purge, PurgePath};

fn with<T>(lines: &str, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut head = Head::new();
    assert_eq!(parse_head(raw.as_bytes(), &HeadLimits::default(), &mut head), Ok(Parse::Complete), "{raw}");
    look(&head.view(raw.as_bytes()))
}

fn entry(store: &Store, key: &str, body: usize, vary: &str) -> Arc<Entry> {
    let mut fields = Fields::new();
    if !vary.is_empty() {
        fields.push("Vary", "X").unwrap();
    }
    let selected = with(vary, |head| Selected::of(&fields, &[], &Snapshot::of(head)));
    let freshness = Freshness { initial_age: 0, lifetime: 10, stale: Stale::Allowed, while_revalidate: 0, if_error: 0 };
    Arc::new(Entry::new(Record {
        hash: store.hash(key.as_bytes()),
        key: key.as_bytes().into(),
        status: Status::OK,
        fields,
        body: Bytes::from(vec![b'x'; body]),
        selected,
        freshness,
        since: Moment::from_nanos(1),
    }))
}

fn put(store: &Store, entry: &Arc<Entry>) -> bool {
    let stamp = store.stamp(entry.record.hash);
    store.insert(entry, stamp)
}

fn find(store: &Store, key: &str, lines: &str) -> Option<Arc<Entry>> {
    match with(lines, |head| store.find(store.hash(key.as_bytes()), key.as_bytes(), head)) {
        Lookup::Found(entry) => Some(entry),
        Lookup::Other(_) | Lookup::Nothing => None,
    }
}

#[test]
fn a_response_is_found_by_its_target_and_what_it_was_chosen_by() {
    let store = Store::new(1 << 20, 1024);
    let (one, two) = (entry(&store, "k", 1, "X: 1\r\n"), entry(&store, "k", 1, "X: 2\r\n"));
    assert!(put(&store, &one) && put(&store, &two));
    assert!(Arc::ptr_eq(&find(&store, "k", "X: 1\r\n").unwrap(), &one));
    assert!(Arc::ptr_eq(&find(&store, "k", "X: 2\r\n").unwrap(), &two));
    let other = with("X: 3\r\n", |head| store.find(store.hash(b"k"), b"k", head));
    assert!(matches!(other, Lookup::Other(_)));
    assert!(find(&store, "other", "").is_none());
    let again = entry(&store, "k", 5, "X: 1\r\n");
    assert!(put(&store, &again) && !one.is_live() && again.is_live());
    assert_eq!((store.counts().entries, store.forget(store.hash(b"k"), b"k")), (2, 2));
    assert_eq!((store.counts().entries, store.counts().bytes), (0, 0));
    assert!(!again.is_live());
}

#[test]
fn what_was_asked_for_before_a_change_is_not_stored_after_it() {
    let store = Store::new(1 << 20, 1024);
    let entry = entry(&store, "k", 1, "");
    let stamp = store.stamp(entry.record.hash);
    store.forget(entry.record.hash, b"k");
    assert!(!store.insert(&entry, stamp));
    let stamp = store.stamp(entry.record.hash);
    store.purge(&Purge { host: None, path: PurgePath::All });
    assert!(!store.insert(&entry, stamp));
    assert!(put(&store, &entry));
}

#[test]
fn a_purge_takes_what_it_is_about() {
    let store = Store::new(1 << 20, 1024);
    for key in ["a\0/x/1\0", "a\0/x/1\0q", "a\0/x/2\0", "b\0/x/1\0", "b\0/y\0"] {
        assert!(put(&store, &entry(&store, key, 1, "")));
    }
    let purge = |host: Option<&'static str>, path| store.purge(&Purge { host: host.map(str::as_bytes), path });
    assert_eq!(purge(Some("a"), PurgePath::Exact(b"/x/1")), 2);
    assert_eq!(purge(None, PurgePath::Exact(b"/x")), 0);
    assert_eq!(purge(None, PurgePath::Prefix(b"/x/")), 2);
    assert_eq!(purge(Some("a"), PurgePath::All), 0);
    assert_eq!(purge(None, PurgePath::All), 1);
    assert_eq!(store.counts().bytes, 0);
}

#[test]
fn a_scan_does_not_take_what_is_in_use() {
    let store = Store::new(1 << 20, 1024);
    let keys: Vec<_> = (0..100).map(|number| format!("hot{number}")).collect();
    let (mut lru, room) = (Lru::default(), (1 << 20) / 8 * 6);
    for round in 0..30 {
        for key in &keys {
            match find(&store, key, "") {
                Some(entry) => entry.note_use(),
                None => assert!(put(&store, &entry(&store, key, 100, ""))),
            }
            lru.touch(key, 1000, room);
        }
        for number in 0..20 {
            let key = format!("cold{round}-{number}");
            assert!(put(&store, &entry(&store, &key, 100, "")));
        }
    }
    for number in 0..20_000 {
        let key = format!("scan{number}");
        assert!(put(&store, &entry(&store, &key, 100, "")));
        lru.touch(&key, 1000, room);
    }
    let left = keys.iter().filter(|key| find(&store, key, "").is_some()).count();
    assert!(left >= 90, "{left} of {}", keys.len());
    // What it is compared with: by the last use alone, all would be gone.
    assert_eq!(keys.iter().filter(|key| lru.has(key)).count(), 0);
    assert!(store.counts().evicted > 10_000);
}

/// Least recently used, as simply as can be.
#[derive(Default)]
struct Lru(VecDeque<(String, usize)>);

impl Lru {
    fn touch(&mut self, key: &str, bytes: usize, room: usize) {
        if let Some(at) = self.0.iter().rposition(|(own, _)| own == key) {
            self.0.remove(at);
        }
        self.0.push_back((key.to_owned(), bytes));
        while self.0.len() * bytes > room {
            self.0.pop_front();
        }
    }

    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(own, _)| own == key)
    }
}

#[test]
fn what_is_at_hand_goes_when_it_leaves_the_store_and_stays_within_its_bytes() {
    let store = Store::new(1 << 20, 1024);
    let near = Near::new(64 * 1024, Arc::default());
    let kept = entry(&store, "k", 10, "");
    assert!(put(&store, &kept));
    near.keep(kept.clone());
    let at_hand = || with("", |head| near.find(kept.record.hash, b"k", head)).is_some();
    assert!(at_hand());
    store.forget(kept.record.hash, b"k");
    assert!(!at_hand());
    for number in 0..1000 {
        near.keep(entry(&store, &number.to_string(), 500, ""));
        assert!(near.bytes() <= 64 * 1024);
    }
    near.keep(entry(&store, "large", 60 * 1024, ""));
    assert!(with("", |head| near.find(store.hash(b"large"), b"large", head)).is_none());
}

#[test]
fn bodies_that_are_coming_have_a_bound() {
    let store = Store::new(8 << 20, 1024);
    assert!(store.reserve(1 << 20) && !store.reserve(1));
    store.release(10);
    assert!(store.reserve(10));
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn all_who_wait_for_a_fetch_are_woken_once_by_its_end_however_it_ends() {
    let store = Store::new(1 << 20, 1024);
    let now = Moment::from_nanos(1);
    for is_dropped in [false, true] {
        let Fetching::Lead(mut lead) = store.fly(1, 1, Purpose::Shared, now) else { panic!("nobody leads yet") };
        let mut waits: Vec<_> = (0..3)
            .map(|_| match store.fly(1, 1, Purpose::Shared, now) {
                Fetching::Join(wait) => wait,
                _ => panic!("somebody leads"),
            })
            .collect();
        assert!(matches!(store.fly(1, 1, Purpose::Own, now), Fetching::Alone));
        let counting = Arc::new(Counting::default());
        let waker = Waker::from(counting.clone());
        let mut cx = Context::from_waker(&waker);
        for wait in &mut waits {
            assert!(pin!(wait).poll(&mut cx).is_pending());
        }
        // One is given up.
        waits.pop();
        if is_dropped {
            drop(lead)
        } else {
            lead.land(Landing::NotStored)
        }
        assert_eq!(counting.0.load(Ordering::SeqCst), 2);
        for wait in &mut waits {
            let landing = pin!(wait).poll(&mut cx);
            let expected = if is_dropped {
                matches!(landing, Poll::Ready(Landing::Failed))
            } else {
                matches!(landing, Poll::Ready(Landing::NotStored))
            };
            assert!(expected, "{landing:?}");
        }
    }
    store.pass(1, now);
    assert!(matches!(store.fly(1, 1, Purpose::Shared, now), Fetching::Alone));
    assert!(matches!(store.fly(1, 1, Purpose::Refresh, now), Fetching::Lead(_)));
}

#[test]
fn so_many_wait_and_no_more() {
    let flight = Arc::new(Flight::default());
    let first = flight.join(2).unwrap();
    let second = flight.join(2).unwrap();
    assert!(flight.join(2).is_none());
    drop(first);
    assert!(flight.join(2).is_some());
    drop(second);
}

#[test]
fn options_that_do_not_fit_each_other_are_told_of() {
    assert_eq!(Options::default().check(), []);
    let options = Options {
        size: 1 << 20,
        max_body: 1 << 20,
        vary: vec!["Accept".to_owned(), "a b".to_owned()],
        status_name: Some("my cache".to_owned()),
        ..Options::default()
    };
    let told: Vec<_> = options.check().iter().map(|mistake| mistake.path.clone()).collect();
    assert_eq!(told, [vec!["max_body".into()], vec!["vary".into(), 1.into()], vec!["status_name".into()]]);
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, variant: u8, body: u16 },
    Find { key: u8, variant: u8 },
    Forget { key: u8 },
    PurgeAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..40_u8, 0..3_u8, 0..6000_u16).prop_map(|(key, variant, body)| Step::Put { key, variant, body }),
        8 => (0..40_u8, 0..3_u8).prop_map(|(key, variant)| Step::Find { key, variant }),
        1 => (0..40_u8).prop_map(|key| Step::Forget { key }),
        1 => Just(Step::PurgeAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The oracle is a map that never lacks room: what the store finds is what the map has, and it never holds more than
    /// it may.
    #[test]
    fn the_store_finds_what_was_put_last_or_nothing(steps in proptest::collection::vec(step(), 1..300)) {
        const ROOM: u64 = 96 * 1024;
        let store = Store::new(128 * 1024, 8 * 1024);
        let mut oracle = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put { key, variant, body } => {
                    let entry = entry(&store, &key.to_string(), body.into(), &format!("X: {variant}\r\n"));
                    if put(&store, &entry) {
                        oracle.insert((key, variant), entry);
                    }
                }
                Step::Find { key, variant } => {
                    if let Some(found) = find(&store, &key.to_string(), &format!("X: {variant}\r\n")) {
                        prop_assert!(Arc::ptr_eq(&found, &oracle[&(key, variant)]) && found.is_live());
                        found.note_use();
                    }
                }
                Step::Forget { key } => {
                    store.forget(store.hash(key.to_string().as_bytes()), key.to_string().as_bytes());
                    oracle.retain(|(own, _), _| *own != key);
                }
                Step::PurgeAll => {
                    store.purge(&Purge { host: None, path: PurgePath::All });
                    oracle.clear();
                }
            }
            let live: Vec<_> = oracle.values().filter(|entry| entry.is_live()).collect();
            let counts = store.counts();
            prop_assert_eq!(counts.entries, live.len() as u64);
            prop_assert_eq!(counts.bytes, live.iter().map(|entry| entry.bytes as u64).sum::<u64>());
            prop_assert!(counts.bytes <= ROOM);
            let keys: HashSet<_> = live.iter().map(|entry| entry.record.key.clone()).collect();
            prop_assert!(keys.len() <= 40);
        }
    }
}
