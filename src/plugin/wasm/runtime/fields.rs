//! The header fields of a message as a guest sees and edits them: names in lower case, and for heads the parts of the first
//! line as fields whose names begin with a colon.

use std::ops::Range;

use super::abi::Status;
use super::pairs::Pair;
use crate::http::encode::is_server_owned;
use crate::http::{is_field_name, is_field_value};
use crate::limits::{WASM_FIELDS_BYTES_MAX, WASM_FIELDS_MAX};

/// What a map belongs to: it decides which names with a colon there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Of {
    #[default]
    Request,
    Response,
    /// Trailers, and what a guest cannot edit.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Range<u32>,
    value: Range<u32>,
}

/// The fields, kept in one block of bytes that grows with each edit, up to [`WASM_FIELDS_BYTES_MAX`]. Reused from message
/// to message; once grown it allocates no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldMap {
    of: Of,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Names whose fields a guest has changed.
    touched: Vec<Range<u32>>,
}

impl FieldMap {
    /// Empties the map, for a message of this kind.
    pub(crate) fn reset(&mut self, of: Of) {
        self.of = of;
        self.bytes.clear();
        self.entries.clear();
        self.touched.clear();
    }

    /// Adds a field of the message itself. One that finds no room any more is left out: messages are bounded below that.
    pub(crate) fn load(&mut self, name: &[u8], value: &[u8]) {
        if let Ok(entry) = self.store(name, value) {
            self.entries.push(entry);
        }
    }

    /// The fields, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pair<'_>> + Clone {
        self.entries.iter().map(|entry| (self.part(&entry.name), self.part(&entry.value)))
    }

    /// Their number.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of the first field of this name, in any case.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(held, _)| held.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The values of all fields of this name, in any case.
    pub(crate) fn values<'m>(&'m self, name: &'m [u8]) -> impl Iterator<Item = &'m [u8]> {
        self.iter().filter(move |(held, _)| held.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The names whose fields were changed since the map was filled, each once; their values now are [`FieldMap::values`].
    pub(crate) fn touched(&self) -> impl Iterator<Item = &[u8]> {
        self.touched.iter().map(|name| self.part(name))
    }

    /// What a guest has changed of the fields that are its to change: each name once, with its values now.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&[u8], impl Iterator<Item = &[u8]>)> {
        self.touched().filter(|name| is_guests(name)).map(|name| (name, self.values(name)))
    }

    /// The room that they take in a message at the most: lines, and bytes with `: ` and CRLF. One that is only removed takes a
    /// line of its name.
    pub(crate) fn size_of_changes(&self) -> (usize, usize) {
        self.changes().fold((0, 0), |(lines, bytes), (name, values)| {
            let sizes = values.map(|value| name.len() + value.len() + 4);
            let (own, size) = sizes.fold((0, 0), |(lines, bytes), size| (lines + 1, bytes + size));
            (lines + own.max(1), bytes + size.max(name.len() + 4))
        })
    }

    /// Takes the changes for done.
    pub(crate) fn settle(&mut self) {
        self.touched.clear();
    }

    /// Adds a field behind the others.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        self.check(name, value)?;
        if name.first() == Some(&b':') {
            // There is one of each.
            return self.replace(name, value);
        }
        let entry = self.store(name, value)?;
        self.touch(entry.name.clone());
        self.entries.push(entry);
        Ok(())
    }

    /// Puts one field in the place of the first one of this name, or behind the others, and removes further ones.
    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        self.check(name, value)?;
        let entry = self.store(name, value)?;
        self.touch(entry.name.clone());
        let bytes = &self.bytes;
        let is_named = |held: &Entry| part(bytes, &held.name).eq_ignore_ascii_case(name);
        match self.entries.iter().position(is_named) {
            Some(first) => {
                let mut index = 0;
                self.entries.retain(|held| {
                    index += 1;
                    index - 1 <= first || !is_named(held)
                });
                self.entries[first] = entry;
            }
            None => self.entries.push(entry),
        }
        Ok(())
    }

    /// Removes all fields of this name. The parts of a first line stay: a message has one.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Result<(), Status> {
        if name.first() == Some(&b':') || self.get(name).is_none() {
            return Ok(());
        }
        let name = self.store_text(name)?;
        let bytes = &self.bytes;
        self.entries.retain(|held| !part(bytes, &held.name).eq_ignore_ascii_case(part(bytes, &name)));
        self.touch(name);
        Ok(())
    }

    /// Puts `pairs` in the place of all fields. Parts of the first line that are not among them stay as they are.
    pub(crate) fn replace_all(&mut self, pairs: &[Pair<'_>]) -> Result<(), Status> {
        for (name, value) in pairs {
            self.check(name, value)?;
        }
        let bytes = pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if pairs.len() + 8 > WASM_FIELDS_MAX || self.bytes.len() + bytes > WASM_FIELDS_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        for index in 0..self.entries.len() {
            self.touch(self.entries[index].name.clone());
        }
        let bytes = &self.bytes;
        self.entries.retain(|held| part(bytes, &held.name).first() == Some(&b':'));
        pairs.iter().try_for_each(|(name, value)| self.add(name, value))
    }

    fn check(&self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        let is_name = match (self.of, name) {
            (Of::Request, b":method" | b":path" | b":authority" | b":scheme") => !value.is_empty(),
            (Of::Response, b":status") => true,
            _ => is_field_name(name),
        };
        if is_name && is_field_value(value) { Ok(()) } else { Err(Status::BadArgument) }
    }

    fn store(&mut self, name: &[u8], value: &[u8]) -> Result<Entry, Status> {
        if self.entries.len() >= WASM_FIELDS_MAX {
            return Err(Status::InternalFailure);
        }
        let before = self.bytes.len();
        let name = self.store_text(name)?;
        self.bytes[name.start as usize..].make_ascii_lowercase();
        match self.store_text(value) {
            Ok(value) => Ok(Entry { name, value }),
            Err(status) => {
                self.bytes.truncate(before);
                Err(status)
            }
        }
    }

    fn store_text(&mut self, text: &[u8]) -> Result<Range<u32>, Status> {
        let start = self.bytes.len();
        if start + text.len() > WASM_FIELDS_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        self.bytes.extend_from_slice(text);
        Ok(start as u32..self.bytes.len() as u32)
    }

    fn touch(&mut self, name: Range<u32>) {
        let bytes = &self.bytes;
        if !self.touched.iter().any(|held| part(bytes, held).eq_ignore_ascii_case(part(bytes, &name))) {
            self.touched.push(name);
        }
    }

    fn part(&self, range: &Range<u32>) -> &[u8] {
        part(&self.bytes, range)
    }
}

fn part<'b>(bytes: &'b [u8], range: &Range<u32>) -> &'b [u8] {
    bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// Whether a guest's field is taken over into the message. Framing and the connection are the server's, and a part of the
/// first line is no field.
pub(crate) fn is_guests(name: &[u8]) -> bool {
    name.first() != Some(&b':') && !is_server_owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the map should be, the simplest way.
    #[derive(Default)]
    struct Naive(Vec<(Vec<u8>, Vec<u8>)>);

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just("a"),
            Just("B"),
            Just("b"),
            Just("c-d"),
            Just(":path"),
            Just("bad name"),
            Just(""),
            Just("x\r\ny")
        ]
        .prop_map(|text| text.as_bytes().to_vec())
    }

    proptest! {
        #[test]
        fn edits_do_what_their_names_say(edits in prop::collection::vec((0..3_u8, text(), text()), 0..40)) {
            let (mut map, mut naive) = (FieldMap::default(), Naive::default());
            map.reset(Of::Request);
            map.load(b":path", b"/");
            naive.0.push((b":path".to_vec(), b"/".to_vec()));
            for (kind, name, value) in edits {
                let lower = name.to_ascii_lowercase();
                let is_part = name.first() == Some(&b':');
                let has = |text: &[u8], byte| text.contains(&byte);
                let is_bad = name.is_empty() || has(&name, b' ') || has(&name, b'\n') || has(&value, b'\n');
                let is_good = !is_bad && (!is_part || !value.is_empty());
                let first = naive.0.iter().position(|(held, _)| *held == lower);
                let done = match kind {
                    0 if !is_part => map.add(&name, &value),
                    0 | 1 => map.replace(&name, &value),
                    _ => map.remove(&name),
                };
                if kind == 2 {
                    prop_assert!(done.is_ok());
                    naive.0.retain(|(held, _)| *held != lower || is_part);
                    continue;
                }
                prop_assert_eq!(done.is_ok(), is_good);
                match (is_good, kind, first) {
                    (false, ..) => {}
                    (true, 1, Some(first)) | (true, 0, Some(first)) if kind == 1 || is_part => {
                        let mut index = 0;
                        naive.0.retain(|(held, _)| { index += 1; index - 1 <= first || *held != lower });
                        naive.0[first].1 = value;
                    }
                    _ => naive.0.push((lower, value)),
                }
            }
            let found = map.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>();
            prop_assert_eq!(found, naive.0);
        }
    }

    #[test]
    fn a_map_has_room_for_so_much_and_no_more() {
        let mut map = FieldMap::default();
        map.reset(Of::Response);
        let value = vec![b'x'; 60_000];
        let added = (0..100).take_while(|_| map.replace(b"a", &value).is_ok()).count();
        assert_eq!(added, WASM_FIELDS_BYTES_MAX / 60_001);
        map.reset(Of::Response);
        let added = (0..WASM_FIELDS_MAX + 10).take_while(|_| map.add(b"a", b"").is_ok()).count();
        assert_eq!((added, map.len()), (WASM_FIELDS_MAX, WASM_FIELDS_MAX));
    }
}
