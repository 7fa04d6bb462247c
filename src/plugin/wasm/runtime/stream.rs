//! One request and its response, as far as an instance has to do with it; and the table of those that it has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::task::Waker;

use super::abi::Half;
use super::fields::{FieldMap, Of};
use super::host::ROOT;
use super::instance::Fault;
use crate::clock::Moment;
use crate::http::Fields;
use crate::limits::{LARGE_BUFFER_BYTES, WASM_PROPERTIES_MAX, WASM_PROPERTY_BYTES_MAX, WASM_STREAMS_MAX};

/// An answer that a guest gives in the place of the handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalResponse {
    /// From 200 to 599.
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
}

/// What a guest wants to become of a request, besides what its callbacks answer.
#[derive(Debug, Default)]
pub(crate) enum Wish {
    #[default]
    None,
    Answer(Box<LocalResponse>),
    /// The connection is closed without an answer.
    Close,
}

/// Facts that the fields do not tell.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) peer: SocketAddr,
    pub(crate) id: String,
    pub(crate) protocol: &'static str,
    pub(crate) route: String,
    pub(crate) began: Moment,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            peer: SocketAddr::from(([0; 4], 0)),
            id: String::new(),
            protocol: "",
            route: String::new(),
            began: Moment::default(),
        }
    }
}

/// How far the head of a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The guest has not been shown it.
    #[default]
    Unknown,
    /// The guest may edit it.
    Open,
    /// It has gone on: it can still be read.
    Sent,
}

/// What one half of an exchange holds for the guest.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) headers: FieldMap,
    /// Fields of the head that are not copied because the guest cannot look at them: it is told how many there are.
    pub(crate) uncopied: usize,
    pub(crate) trailers: FieldMap,
    pub(crate) body: Vec<u8>,
    /// How far its head is.
    pub(crate) stage: Stage,
    /// The guest said to go on with what it had paused.
    pub(crate) resumed: bool,
    /// It was shown the end of the body.
    pub(crate) is_ended: bool,
    /// It has changed the body.
    pub(crate) is_rewritten: bool,
}

impl Message {
    fn clear(&mut self, of: Of) {
        self.headers.reset(of);
        self.uncopied = 0;
        self.trailers.reset(Of::Other);
        self.body.clear();
        self.body.shrink_to(LARGE_BUFFER_BYTES);
        self.stage = Stage::Unknown;
        (self.resumed, self.is_ended, self.is_rewritten) = (false, false, false);
    }

    /// Forgets what it held for a message in whose place another one comes, whose head the guest is about to be shown.
    pub(crate) fn begin(&mut self, of: Of) {
        self.clear(of);
        self.stage = Stage::Open;
    }
}

/// One request.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) request: Message,
    pub(crate) response: Message,
    pub(crate) facts: Facts,
    pub(crate) wish: Wish,
    /// The response has begun, so that no other can be given.
    pub(crate) is_answered: bool,
    /// The guest has answered `proxy_on_done` with "not yet".
    pub(crate) is_lingering: bool,
    /// What failed in a callback for it that it did not wait in.
    pub(crate) fault: Option<Fault>,
    /// Who waits for the guest to resume.
    pub(crate) waker: Option<Waker>,
    properties: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Stream {
    pub(crate) fn message_mut(&mut self, half: Half) -> &mut Message {
        match half {
            Half::Request => &mut self.request,
            Half::Response => &mut self.response,
        }
    }

    /// Tells whoever waits that the guest has said something.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What the guest has set under this path.
    pub(crate) fn property(&self, path: &[u8]) -> Option<&[u8]> {
        self.properties.get(path).map(Vec::as_slice)
    }

    /// Keeps a property for this request; whether there is room.
    pub(crate) fn set_property(&mut self, path: &[u8], value: &[u8]) -> bool {
        let is_new = !self.properties.contains_key(path);
        if path.len() + value.len() > WASM_PROPERTY_BYTES_MAX || is_new && self.properties.len() >= WASM_PROPERTIES_MAX
        {
            return false;
        }
        self.properties.insert(path.to_vec(), value.to_vec());
        true
    }

    fn clear(&mut self) {
        self.request.clear(Of::Request);
        self.response.clear(Of::Response);
        self.facts.id.clear();
        self.facts.route.clear();
        self.wish = Wish::None;
        (self.is_answered, self.is_lingering) = (false, false);
        (self.fault, self.waker) = (None, None);
        self.properties.clear();
    }
}

/// A place in the table, and how often it was taken.
#[derive(Debug, Default)]
struct Place {
    turn: u32,
    /// Kept when it is free: it allocates no more once it has grown.
    stream: Box<Stream>,
    is_taken: bool,
}

/// The requests of one instance. A context's id is its place and how often that was taken, so that an id which a guest
/// kept finds nothing for a long time.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    places: Vec<Place>,
    free: Vec<u32>,
}

const PLACE_BITS: u32 = 16;
const _: () = assert!(WASM_STREAMS_MAX < 1 << PLACE_BITS);
/// Ids of requests are above that of the plugin itself.
const FIRST: u32 = ROOT + 1;
const TURNS: u32 = (1 << (32 - PLACE_BITS)) - 1;

impl Streams {
    /// Takes a place; `None` when all [`WASM_STREAMS_MAX`] are taken.
    pub(crate) fn open(&mut self) -> Option<(u32, &mut Stream)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.places.len() < WASM_STREAMS_MAX => {
                self.places.push(Place::default());
                self.places.len() as u32 - 1
            }
            None => return None,
        };
        let place = self.places.get_mut(index as usize)?;
        place.is_taken = true;
        place.turn = (place.turn + 1) % TURNS;
        place.stream.clear();
        Some((((place.turn << PLACE_BITS) | index) + FIRST, &mut place.stream))
    }

    /// Gives the place of a context back.
    pub(crate) fn close(&mut self, id: u32) {
        if let Some(index) = self.find(id) {
            self.places[index].is_taken = false;
            self.free.push(index as u32);
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Stream> {
        self.find(id).map(|index| &*self.places[index].stream)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.find(id).map(|index| &mut *self.places[index].stream)
    }

    /// Tells all that wait for the guest that it will say nothing.
    pub(crate) fn fail_waiting(&mut self, fault: &Fault) {
        for place in self.places.iter_mut().filter(|place| place.is_taken && place.stream.waker.is_some()) {
            place.stream.fault = Some(fault.clone());
            place.stream.wake();
        }
    }

    /// Has all that wait for the guest look whether there is still something that they can wait for.
    pub(crate) fn wake_all(&mut self) {
        self.places.iter_mut().for_each(|place| place.stream.wake());
    }

    /// Contexts that are open.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn find(&self, id: u32) -> Option<usize> {
        let number = id.checked_sub(FIRST)?;
        let (turn, index) = (number >> PLACE_BITS, (number & ((1 << PLACE_BITS) - 1)) as usize);
        self.places.get(index).is_some_and(|place| place.is_taken && place.turn == turn).then_some(index)
    }
}

impl Drop for Streams {
    /// With an instance that is given up: those that wait for it look, and find it gone, instead of waiting to their time-out.
    fn drop(&mut self) {
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_finds_its_own_request_and_no_other(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..300)) {
            let mut streams = Streams::default();
            let mut open: Vec<u32> = Vec::new();
            let mut closed: Vec<u32> = Vec::new();
            for (is_opened, which) in steps {
                if is_opened || open.is_empty() {
                    let (id, stream) = streams.open().unwrap();
                    prop_assert!(id > ROOT && !open.contains(&id) && !closed.contains(&id));
                    prop_assert!(stream.facts.route.is_empty());
                    stream.facts.route.push_str(&id.to_string());
                    open.push(id);
                } else {
                    let id = open.swap_remove(which.index(open.len()));
                    streams.close(id);
                    streams.close(id);
                    closed.push(id);
                }
                prop_assert_eq!(streams.len(), open.len());
                prop_assert!(open.iter().all(|id| streams.get(*id).is_some_and(|stream| stream.facts.route == id.to_string())));
                prop_assert!(closed.iter().all(|id| streams.get(*id).is_none()));
            }
        }
    }

    #[test]
    fn there_is_a_bound_on_requests_and_ids_outside_find_nothing() {
        let mut streams = Streams::default();
        for _ in 0..WASM_STREAMS_MAX {
            streams.open().unwrap();
        }
        assert!(streams.open().is_none());
        assert!([0, ROOT, u32::MAX, 1 << 31].iter().all(|id| streams.get(*id).is_none()));
    }
}
