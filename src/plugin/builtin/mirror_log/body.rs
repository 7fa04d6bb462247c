//! Bodies as they are gathered while handlers read them, and as they are written.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::super::media_types::{TypePattern, essence_of};
use super::hiding::Hiding;
use crate::handler::{BodyWatch, Request};
use crate::http::BodyFraming;
use crate::http::head::list_members;
use crate::limits::MIRROR_LOG_KEPT_BYTES_MAX;

/// Which bodies are written.
pub(super) struct Bodies {
    /// Bytes of one.
    pub(super) most: usize,
    pub(super) types: Vec<TypePattern>,
}

/// What stands in a line of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct BodyText {
    /// As text, or in base64 where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    body_is: BodyIs,
}

/// How much of a body stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum BodyIs {
    /// All of it.
    Whole,
    /// Its beginning.
    Cut,
    /// Nothing: it may have secrets that nobody can find.
    LeftOut,
}

/// Bytes of bodies that one core keeps.
#[derive(Default)]
pub(super) struct Tally(Cell<usize>);

/// What was read so far.
pub(super) struct Gathered {
    bytes: Vec<u8>,
    progress: Progress,
    most: usize,
    tally: Rc<Tally>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reading,
    /// More was read than is kept.
    Full,
    Ended,
}

impl Gathered {
    fn add(&mut self, piece: &[u8]) {
        let kept = self.tally.0.get();
        let room = (self.most - self.bytes.len()).min(MIRROR_LOG_KEPT_BYTES_MAX.saturating_sub(kept));
        let taken = piece.len().min(room);
        if self.progress == Progress::Reading {
            self.bytes.extend_from_slice(&piece[..taken]);
            self.tally.0.set(kept + taken);
            if taken < piece.len() {
                self.progress = Progress::Full;
            }
        }
    }

    fn forget(&mut self) {
        self.tally.0.set(self.tally.0.get() - self.bytes.len());
        self.bytes.clear();
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A body that is being read.
#[derive(Clone)]
pub(super) struct Gathering(Rc<RefCell<Gathered>>);

impl Gathering {
    pub(super) fn new(most: usize, tally: Rc<Tally>) -> Self {
        let progress = Progress::Reading;
        Self(Rc::new(RefCell::new(Gathered { bytes: Vec::new(), progress, most, tally })))
    }

    pub(super) fn look(&self) -> Ref<'_, Gathered> {
        self.0.borrow()
    }
}

impl BodyWatch for Gathering {
    fn piece(&mut self, piece: &[u8]) {
        self.0.borrow_mut().add(piece);
    }

    fn end(&mut self) {
        let mut gathered = self.0.borrow_mut();
        if gathered.progress == Progress::Reading {
            gathered.progress = Progress::Ended;
        }
    }

    fn restart(&mut self) {
        let mut gathered = self.0.borrow_mut();
        gathered.forget();
        gathered.progress = Progress::Reading;
    }
}

/// How secrets are found in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Form,
    Json,
    Other,
}

impl Kind {
    fn of(essence: &[u8]) -> Self {
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        let ends = |suffix: &str| {
            let start = essence.len().checked_sub(suffix.len());
            start.is_some_and(|start| essence[start..].eq_ignore_ascii_case(suffix.as_bytes()))
        };
        match () {
            () if is("application/x-www-form-urlencoded") => Self::Form,
            // "json" alone too: `application/x-json`, `text/json`, `application/x-ndjson`.
            () if ends("json") || is("application/jsonl") => Self::Json,
            () => Self::Other,
        }
    }
}

impl Bodies {
    /// Whether bodies of this type are written.
    pub(super) fn takes(&self, content_type: Option<&[u8]>) -> bool {
        content_type.is_some_and(|value| self.types.iter().any(|pattern| pattern.matches(essence_of(value))))
    }

    /// What is written of a request's body, of which so much was gathered.
    pub(super) fn write(&self, request: &Request<'_>, gathered: Option<&Gathered>, hiding: &Hiding) -> BodyText {
        if matches!(request.framing(), BodyFraming::None | BodyFraming::Length(0)) {
            return text_of(Vec::new(), BodyIs::Whole);
        }
        let mut types = request.header_values("content-type");
        let (Some(only), None) = (types.next(), types.next()) else { return left_out() };
        let is_coded = |value| list_members(value).any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        // In what is compressed nobody finds secrets.
        if !self.takes(Some(only)) || request.header_values("content-encoding").any(is_coded) {
            return left_out();
        }
        let nothing = (&[][..], Progress::Reading);
        let (bytes, progress) = gathered.map_or(nothing, |gathered| (&gathered.bytes[..], gathered.progress));
        shown(bytes, progress, Kind::of(essence_of(only)), hiding)
    }
}

fn shown(bytes: &[u8], progress: Progress, kind: Kind, hiding: &Hiding) -> BodyText {
    let is = match progress {
        Progress::Ended => BodyIs::Whole,
        Progress::Reading | Progress::Full => BodyIs::Cut,
    };
    let shown = match kind {
        Kind::Form => hiding.form(bytes),
        Kind::Json => hiding.json(bytes, is == BodyIs::Cut),
        Kind::Other => Some(bytes.to_vec()),
    };
    shown.map_or_else(left_out, |shown| text_of(shown, is))
}

fn left_out() -> BodyText {
    BodyText { body: None, body_base64: None, body_is: BodyIs::LeftOut }
}

/// Text as text. Control characters would take six bytes each in JSON, and are none of a text's.
fn text_of(mut bytes: Vec<u8>, is: BodyIs) -> BodyText {
    if let (BodyIs::Cut, Err(error)) = (is, std::str::from_utf8(&bytes))
        && error.error_len().is_none()
    {
        // Cut within a character.
        bytes.truncate(error.valid_up_to());
    }
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    let (body, body_base64) = match String::from_utf8(bytes) {
        Ok(text) if !text.as_bytes().iter().any(is_control) => (Some(text), None),
        Ok(text) => (None, Some(STANDARD.encode(text))),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    BodyText { body, body_base64, body_is: is }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gathering(most: usize, tally: &Rc<Tally>, pieces: &[&[u8]], ends: bool) -> Gathering {
        let mut gathering = Gathering::new(most, tally.clone());
        pieces.iter().for_each(|piece| gathering.piece(piece));
        if ends {
            gathering.end();
        }
        gathering
    }

    fn line(kind: Kind, pieces: &[&[u8]], most: usize, ends: bool) -> String {
        let gathering = gathering(most, &Rc::default(), pieces, ends);
        let gathered = gathering.look();
        serde_json::to_string(&shown(&gathered.bytes, gathered.progress, kind, &Hiding(Vec::new()))).unwrap()
    }

    #[test]
    fn a_body_is_text_or_base64_and_says_whether_it_is_whole() {
        for (kind, pieces, most, expected) in [
            (Kind::Other, &[&b"a\n"[..], b"\"b\""][..], 9, r#"{"body":"a\n\"b\"","body_is":"whole"}"#),
            (Kind::Other, &[b"abc", b"def"], 6, r#"{"body":"abcdef","body_is":"whole"}"#),
            (Kind::Other, &[b"abc", b"def"], 5, r#"{"body":"abcde","body_is":"cut"}"#),
            (Kind::Other, &["a\u{e9}".as_bytes()], 2, r#"{"body":"a","body_is":"cut"}"#),
            (Kind::Other, &[b"a\xc3"], 9, r#"{"body_base64":"YcM=","body_is":"whole"}"#),
            (Kind::Other, &[b"a\0"], 9, r#"{"body_base64":"YQA=","body_is":"whole"}"#),
            (Kind::Form, &[b"a=1&pass", b"word=x"], 99, r#"{"body":"a=1&password=(hidden)","body_is":"whole"}"#),
            // What clients send as a form and is none (curl does so unless told otherwise): its secrets have other names.
            (Kind::Form, &[br#"{"password":"x="}"#], 99, r#"{"body_is":"left_out"}"#),
            (Kind::Form, &[b" \n<password>x</password>"], 99, r#"{"body_is":"left_out"}"#),
            (Kind::Form, &[b"password: x\n"], 99, r#"{"body_is":"left_out"}"#),
            (Kind::Form, &[b"a[b]=1&c+d=%7B&otp=2"], 99, r#"{"body":"a[b]=1&c+d=%7B&otp=(hidden)","body_is":"whole"}"#),
            (Kind::Form, &[b"a=1&password=x"], 12, r#"{"body":"a=1&password","body_is":"cut"}"#),
            (Kind::Json, &[b"{\"token\":\"x"], 9, r#"{"body":"{\"token\":\"(hidden)\"","body_is":"cut"}"#),
            (Kind::Json, &[b"{\"token\":\"x"], 99, r#"{"body_is":"left_out"}"#),
            (Kind::Json, &[b"token=x"], 99, r#"{"body_is":"left_out"}"#),
        ] {
            assert_eq!(line(kind, pieces, most, true), expected);
        }
        assert_eq!(line(Kind::Other, &[b"ab"], 9, false), r#"{"body":"ab","body_is":"cut"}"#);
    }

    #[test]
    fn kinds_are_told_by_the_media_type_in_any_case() {
        for (essence, kind) in [
            ("application/json", Kind::Json),
            ("Application/Problem+JSON", Kind::Json),
            ("text/json", Kind::Json),
            ("application/x-ndjson", Kind::Json),
            ("application/X-WWW-form-urlencoded", Kind::Form),
            ("multipart/form-data", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(essence.as_bytes()), kind, "{essence}");
        }
    }

    #[test]
    fn a_body_that_comes_instead_is_gathered_anew() {
        let tally = Rc::default();
        let mut gathering = gathering(4, &tally, &[b"abcdef"], true);
        gathering.restart();
        assert_eq!(tally.0.get(), 0);
        gathering.piece(b"xy");
        gathering.end();
        let gathered = gathering.look();
        assert_eq!((&gathered.bytes[..], gathered.progress), (&b"xy"[..], Progress::Ended));
    }

    #[test]
    fn what_a_core_keeps_is_bounded_and_given_back() {
        let tally = Rc::default();
        let piece = vec![b'a'; 1 << 20];
        let all: Vec<_> = (0..6).map(|_| gathering(1 << 20, &tally, &[&piece], true)).collect();
        assert_eq!(tally.0.get(), MIRROR_LOG_KEPT_BYTES_MAX);
        let kept: Vec<_> = all.iter().map(|one| (one.look().bytes.len() >> 20, one.look().progress)).collect();
        assert_eq!(kept[3..5], [(1, Progress::Ended), (0, Progress::Full)]);
        drop(all);
        assert_eq!(tally.0.get(), 0);
    }

    proptest! {
        #[test]
        fn what_is_gathered_does_not_depend_on_how_it_came(
            bytes in prop::collection::vec(any::<u8>(), 0..60), cuts in prop::collection::vec(0_usize..60, 0..5), most in 1_usize..60,
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
            for kind in [Kind::Other, Kind::Form, Kind::Json] {
                prop_assert_eq!(line(kind, &pieces, most, true), line(kind, &[&bytes], most, true));
            }
        }
    }
}
