//! Questions and answers of DNS (RFC 1035 section 4) as bytes: one question each, for the addresses of a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE, header_buffer};

use crate::limits::ALIASES_MAX;

/// Bytes of a header.
const HEADER_BYTES: usize = 12;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// IPv4: records of type A.
    V4,
    /// IPv6: records of type AAAA.
    V6,
}

/// A question, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Query {
    kind: Kind,
    bytes: Vec<u8>,
}

/// The addresses that an answer has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// Seconds for which they hold: the least of theirs and of the aliases' that led to them. `None` without addresses.
    pub(super) ttl: Option<u32>,
}

/// What came, to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// No answer to it: somebody else's, or forged.
    Other,
    /// An answer that did not fit.
    CutShort,
    /// The name server cannot tell.
    Refused(RCODE),
    /// An answer that cannot be read.
    Malformed,
    /// What the name has; nothing also where there is no such name.
    Answer(Found),
}

impl Query {
    /// Asks for the addresses of `name`, a complete one; `None` where that is no name. A forger has to guess `id`.
    pub(super) fn new(id: u16, name: &str, kind: Kind) -> Option<Self> {
        let name = Name::new(name).ok()?;
        let record = match kind {
            Kind::V4 => TYPE::A,
            Kind::V6 => TYPE::AAAA,
        };
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(name, QTYPE::TYPE(record), CLASS::IN.into(), false));
        Some(Self { kind, bytes: packet.build_bytes_vec().ok()? })
    }

    /// As it is sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a message says to it.
    pub(super) fn read(&self, message: &[u8]) -> Reply {
        let header = (header_buffer::rcode(message), header_buffer::questions(message));
        let (Ok(code), Ok(questions)) = header else { return Reply::Other };
        let is_response = header_buffer::has_flags(message, PacketFlag::RESPONSE).unwrap_or(false);
        if !is_response || message[..2] != self.bytes[..2] {
            return Reply::Other;
        }
        let is_failure = !matches!(code, RCODE::NoError | RCODE::NameError);
        // Servers spell the name as they like, and some do not repeat a question that they do not understand.
        let question = message.get(HEADER_BYTES..self.bytes.len());
        let is_same = question.is_some_and(|question| question.eq_ignore_ascii_case(&self.bytes[HEADER_BYTES..]));
        match (questions, is_same) {
            (1, true) => {}
            (0, _) if is_failure => {}
            _ => return Reply::Other,
        }
        if is_failure {
            return Reply::Refused(code);
        }
        if header_buffer::has_flags(message, PacketFlag::TRUNCATION).unwrap_or(false) {
            return Reply::CutShort;
        }
        match Packet::parse(message) {
            Ok(packet) => Reply::Answer(self.collect(&packet)),
            Err(_) => Reply::Malformed,
        }
    }

    /// The addresses of the name that was asked for, or of the one that it is an alias of.
    fn collect(&self, packet: &Packet<'_>) -> Found {
        let mut found = Found::default();
        let Some(question) = packet.questions.first() else { return found };
        let mut name = &question.qname;
        let mut ttl = u32::MAX;
        // One that leads round ends here too.
        for _ in 0..=ALIASES_MAX {
            for record in packet.answers.iter().filter(|record| record.name == *name) {
                let address = match (&record.rdata, self.kind) {
                    (RData::A(a), Kind::V4) => IpAddr::from(Ipv4Addr::from_bits(a.address)),
                    (RData::AAAA(aaaa), Kind::V6) => IpAddr::from(Ipv6Addr::from_bits(aaaa.address)),
                    _ => continue,
                };
                found.addresses.push(address);
                ttl = ttl.min(record.ttl);
            }
            if !found.addresses.is_empty() {
                // The highest bit is no part of it (RFC 2181 section 8).
                found.ttl = Some(if ttl > i32::MAX as u32 { 0 } else { ttl });
                break;
            }
            let alias = packet.answers.iter().filter(|record| record.name == *name).find_map(|record| {
                let RData::CNAME(target) = &record.rdata else { return None };
                Some((&target.0, record.ttl))
            });
            let Some((target, held)) = alias else { break };
            (name, ttl) = (target, ttl.min(held));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};

    const ID: u16 = 0x1234;

    fn query(kind: Kind) -> Query {
        Query::new(ID, "api.test.", kind).unwrap()
    }

    fn record(name: &'static str, ttl: u32, data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, data)
    }

    fn v4(last: u8) -> RData<'static> {
        RData::A(A { address: Ipv4Addr::new(10, 0, 0, last).to_bits() })
    }

    fn alias(name: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(Name::new(name).unwrap()))
    }

    /// An answer to `query` with these records.
    fn answer(query: &Query, answers: Vec<ResourceRecord<'static>>) -> Vec<u8> {
        let mut packet = Packet::parse(query.bytes()).unwrap().into_reply();
        packet.answers = answers;
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn found(addresses: &[&str], ttl: Option<u32>) -> Reply {
        Reply::Answer(Found { addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(), ttl })
    }

    /// The bytes as RFC 1035 section 4.1 lays them out, by hand.
    #[test]
    fn a_question_is_one_of_class_in_that_wishes_recursion() {
        let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04db_1\x04test\x00\x00\x1c\x00\x01";
        assert_eq!(Query::new(ID, "db_1.test", Kind::V6).unwrap().bytes(), expected);
        assert_eq!(Query::new(ID, "db_1.test.", Kind::V6).unwrap().bytes(), expected);
        assert!(Query::new(ID, &"x".repeat(64), Kind::V4).is_none());
    }

    #[test]
    fn addresses_are_those_of_the_name_or_of_what_it_is_an_alias_of() {
        let query = query(Kind::V4);
        let read = |answers| query.read(&answer(&query, answers));
        let (api, other) = ("API.test", "other.test");
        assert_eq!(
            read(vec![record(api, 60, v4(1)), record(api, 30, v4(2))]),
            found(&["10.0.0.1", "10.0.0.2"], Some(30))
        );
        assert_eq!(
            read(vec![record(other, 60, v4(1)), record(api, 5, RData::AAAA(AAAA { address: 1 }))]),
            found(&[], None)
        );
        let chain =
            vec![record(other, 60, v4(1)), record("mid.test", 7, alias(other)), record(api, 90, alias("mid.test"))];
        assert_eq!(read(chain), found(&["10.0.0.1"], Some(7)));
        let round = vec![record(other, 60, alias(api)), record(api, 90, alias(other))];
        assert_eq!(read(round), found(&[], None));
        assert_eq!(read(vec![record(api, 1 << 31, v4(1))]), found(&["10.0.0.1"], Some(0)));
        assert_eq!(read(Vec::new()), found(&[], None));
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_ignored() {
        let query = query(Kind::V4);
        let good = answer(&query, vec![record("api.test", 60, v4(1))]);
        for (at, name) in
            [(0, "id"), (1, "id"), (2, "response"), (13, "name"), (23, "type"), (25, "class"), (5, "count")]
        {
            let mut other = good.clone();
            other[at] ^= 0x80;
            assert_eq!(query.read(&other), Reply::Other, "another {name}");
        }
        assert_eq!(query.read(&good[..11]), Reply::Other);
        assert_eq!(query.read(query.bytes()), Reply::Other, "a question is no answer");
        let mut spelt = good;
        spelt[13] ^= 0x20;
        assert_eq!(query.read(&spelt), found(&["10.0.0.1"], Some(60)), "case does not count");
    }

    #[test]
    fn failures_short_answers_and_broken_ones_are_told_apart() {
        let query = query(Kind::V4);
        let good = answer(&query, vec![record("api.test", 60, v4(1))]);
        let with = |at: usize, bits: u8| {
            let mut message = good.clone();
            message[at] |= bits;
            message
        };
        assert_eq!(query.read(&with(3, 2)), Reply::Refused(RCODE::ServerFailure));
        assert_eq!(query.read(&with(2, 2)), Reply::CutShort);
        assert_eq!(query.read(&with(2, 2)[..query.bytes().len()]), Reply::CutShort, "whatever of it is there");
        assert_eq!(query.read(&good[..good.len() - 1]), Reply::Malformed);
        let mut bare = with(3, 4)[..12].to_vec();
        bare[5] = 0;
        bare[7] = 0;
        assert_eq!(query.read(&bare), Reply::Refused(RCODE::NotImplemented));
        let mut denied = answer(&query, Vec::new());
        denied[3] |= 3;
        assert_eq!(query.read(&denied), found(&[], None), "no such name");
    }

    proptest! {
        /// From whatever bytes, with or without a head that fits the question.
        #[test]
        fn no_message_breaks_the_reader_and_a_ttl_comes_with_addresses(
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            counts in proptest::collection::vec(0_u8..3, 3),
            cut in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            flip in any::<u8>(),
        ) {
            let query = query(Kind::V4);
            let chain = vec![record("api.test", 9, alias("x.test")), record("x.test", 60, v4(1))];
            let mut mutated = answer(&query, chain);
            let position = at.index(mutated.len());
            mutated[position] ^= flip;
            mutated.truncate(cut.index(mutated.len() + 1));
            let mut fitting = query.bytes().to_vec();
            fitting[2] = 0x81;
            for (place, count) in [7, 9, 11].into_iter().zip(counts) {
                fitting[place] = count;
            }
            fitting.extend(&tail);
            for message in [mutated, fitting, tail] {
                if let Reply::Answer(found) = query.read(&message) {
                    prop_assert_eq!(found.ttl.is_some(), !found.addresses.is_empty());
                }
            }
        }
    }
}
