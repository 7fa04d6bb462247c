//! Round trips, against our own other side and against other implementations.

use std::io::Read as _;

use proptest::prelude::*;

use super::{CodecError, Decoder, Encoder, Levels, ROOM_BYTES, Step};
use crate::handler::Coding;
use crate::limits::ENCODER_BYTES_MAX;

/// Bytes that compress, but not to nothing.
pub(super) fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut words = std::iter::from_fn(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(state >> 8)
    });
    let mut text = Vec::with_capacity(length + 64);
    while text.len() < length {
        let word = words.next().unwrap_or_default();
        let name = ["alpha", "beta", "gamma", "delta"][word as usize % 4];
        text.extend_from_slice(format!("{{\"{name}\": {}, \"rest\": \"{:x}\"}},", word % 100, word >> 9).as_bytes());
    }
    text.truncate(length);
    text
}

/// What decompresses, fed these pieces one after the other.
pub(super) fn decode<'p>(coding: Coding, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Vec<u8>, CodecError> {
    let (mut decoder, mut out) = (Decoder::new(coding)?, Vec::new());
    for mut piece in pieces {
        loop {
            let before = out.len();
            let taken = decoder.read(piece, &mut out)?;
            assert!(out.len() - before <= ROOM_BYTES, "more than asked for");
            piece = &piece[taken..];
            match (taken == 0 && out.len() == before, piece.is_empty()) {
                (true, true) => break,
                (true, false) => return Err(CodecError),
                (false, _) => {}
            }
        }
    }
    if decoder.is_whole() { Ok(out) } else { Err(CodecError) }
}

pub(super) fn encode<'p>(
    coding: Coding,
    levels: &Levels,
    pieces: impl IntoIterator<Item = (&'p [u8], Step)>,
) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(coding, levels).unwrap(), Vec::new());
    for (piece, step) in pieces {
        encoder.write(piece, step, &mut out).unwrap();
    }
    out
}

/// By an implementation that is not ours; Brotli has none that is fit for a test, but the reference tool by hand.
fn decode_elsewhere(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Gzip => {
            assert_eq!(bytes[..4], [0x1f, 0x8b, 8, 0], "a gzip header without options");
            let end = bytes.len() - 8;
            let plain = miniz_oxide::inflate::decompress_to_vec(&bytes[10..end]).unwrap();
            assert_eq!(bytes[end + 4..], (plain.len() as u32).to_le_bytes());
            plain
        }
        Coding::Zstd => {
            let mut plain = Vec::new();
            ruzstd::decoding::StreamingDecoder::new(bytes).unwrap().read_to_end(&mut plain).unwrap();
            plain
        }
        Coding::Brotli => decode(coding, [bytes]).unwrap(),
    }
}

#[test]
fn what_was_compressed_in_two_pieces_at_any_place_comes_back() {
    let text = sample(300);
    for coding in Coding::ALL {
        for split in 0..=text.len() {
            for step in [Step::Gather, Step::Flush] {
                let (first, second) = text.split_at(split);
                let packed = encode(coding, &Levels::default(), [(first, step), (second, Step::End)]);
                assert_eq!(decode(coding, [&packed[..]]).unwrap(), text, "{coding:?} {split}");
                assert_eq!(decode_elsewhere(coding, &packed), text, "{coding:?} {split}");
            }
        }
        let packed = encode(coding, &Levels::default(), [(&text[..], Step::End)]);
        for split in 0..=packed.len() {
            let (first, second) = packed.split_at(split);
            assert_eq!(decode(coding, [first, second]).unwrap(), text, "{coding:?} {split}");
            // Cut anywhere it is not whole, and not taken for it; nothing at all is an empty body.
            assert_eq!(decode(coding, [first]).is_ok(), split == 0 || split == packed.len(), "{coding:?} {split}");
        }
        assert_eq!(decode(coding, packed.chunks(1)).unwrap(), text);
    }
}

/// Sizes around which chunks, blocks and windows end, and some between them.
fn check_sizes(sizes: impl Iterator<Item = usize>) {
    let text = sample(70_000);
    for size in sizes {
        for coding in Coding::ALL {
            let pieces = text[..size].chunks(16 * 1024).map(|piece| (piece, Step::Flush));
            let packed = encode(coding, &Levels::default(), pieces.chain([(&b""[..], Step::End)]));
            assert_eq!(decode(coding, packed.chunks(4096)).unwrap(), text[..size], "{coding:?} {size}");
            assert_eq!(decode_elsewhere(coding, &packed), text[..size], "{coding:?} {size}");
        }
    }
}

#[test]
fn bodies_of_sizes_around_boundaries_come_back() {
    let edges = (10..=16).map(|log| 1_usize << log).flat_map(|edge| [edge - 1, edge, edge + 1]);
    check_sizes([0, 1, 2, 100, 49_151, 49_152, 70_000].into_iter().chain(edges));
}

#[test]
#[ignore = "takes minutes, and many where nothing is optimised; scripts/compress-sizes has other decoders do it"]
fn bodies_of_every_size_come_back() {
    check_sizes(0..=70_000);
}

#[test]
fn what_was_written_can_be_read_once_it_is_flushed() {
    for coding in Coding::ALL {
        let (mut encoder, mut decoder) =
            (Encoder::new(coding, &Levels::default()).unwrap(), Decoder::new(coding).unwrap());
        for event in [sample(1), sample(40), sample(20_000), sample(70_000)] {
            let (mut packed, mut plain) = (Vec::new(), Vec::new());
            encoder.write(&event, Step::Flush, &mut packed).unwrap();
            let mut at = 0;
            loop {
                let before = plain.len();
                at += decoder.read(&packed[at..], &mut plain).unwrap();
                if at == packed.len() && plain.len() == before {
                    break;
                }
            }
            assert!(plain == event, "{coding:?}: {} of {} bytes", plain.len(), event.len());
        }
    }
}

#[test]
fn an_encoder_that_is_renewed_begins_anew() {
    let (levels, text) = (Levels::default(), sample(10_000));
    for coding in [Coding::Gzip, Coding::Zstd] {
        let mut encoder = Encoder::new(coding, &levels).unwrap();
        encoder.write(&text, Step::Gather, &mut Vec::new()).unwrap();
        let mut encoder = encoder.renew().unwrap();
        let mut out = Vec::new();
        encoder.write(&text, Step::End, &mut out).unwrap();
        assert_eq!(out, encode(coding, &levels, [(&text[..], Step::End)]), "{coding:?}");
        assert!(encoder.renew().is_some());
    }
}

#[test]
fn all_levels_compress_within_their_memory() {
    let text = sample(600_000);
    for level in 0..=9_u8 {
        let levels = Levels { gzip: level.max(1), br: level.min(6), zstd: level.max(1) };
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, &levels).unwrap();
            let mut out = Vec::new();
            text.chunks(50_000).for_each(|piece| encoder.write(piece, Step::Gather, &mut out).unwrap());
            assert!(encoder.size().unwrap_or(0) <= ENCODER_BYTES_MAX / 2, "{coding:?} {level}: {:?}", encoder.size());
            encoder.write(b"", Step::End, &mut out).unwrap();
            assert!(out.len() < text.len() / 3, "{coding:?} {level}: {} bytes", out.len());
            assert_eq!(decode(coding, [&out[..]]).unwrap(), text);
        }
    }
}

#[test]
fn several_members_and_frames_are_one_body() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let one = encode(coding, &Levels::default(), [(&b"one"[..], Step::End)]);
        assert_eq!(decode(coding, [&[&one[..], &one].concat()[..]]).unwrap(), b"oneone");
        assert_eq!(decode(coding, [&[&one[..], b"x"].concat()[..]]), Err(CodecError), "{coding:?}: junk behind it");
    }
    let empty = encode(Coding::Gzip, &Levels::default(), [(&b""[..], Step::End)]);
    assert!(decode(Coding::Gzip, [&empty.repeat(60)[..]]).is_ok());
    assert_eq!(decode(Coding::Gzip, [&empty.repeat(10_000)[..]]), Err(CodecError), "each costs a decoder");
    let brotli = encode(Coding::Brotli, &Levels::default(), [(&b"one"[..], Step::End)]);
    assert_eq!(decode(Coding::Brotli, [&brotli[..], b"x"]), Err(CodecError));
}

#[test]
fn windows_beyond_the_bound_are_refused() {
    // A frame header that asks for 16 MiB (RFC 8878 section 3.1.1.1.2: exponent 14, mantissa 0), then a raw block.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 14 << 3, 0x09, 0x00, 0x00, b'x'];
    assert_eq!(decode(Coding::Zstd, [&frame[..]]), Err(CodecError));
    let mut smaller = frame;
    smaller[5] = 13 << 3;
    assert_eq!(decode(Coding::Zstd, [&smaller[..]]).unwrap(), b"x");
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_back(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..8),
        cut in 1..5000_usize,
    ) {
        let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
        for coding in Coding::ALL {
            let steps = pieces.iter().map(|(piece, flush)| {
                (&piece[..], if *flush { Step::Flush } else { Step::Gather })
            });
            let packed = encode(coding, &Levels::default(), steps.chain([(&b""[..], Step::End)]));
            prop_assert_eq!(&decode(coding, packed.chunks(cut)).unwrap(), &whole);
        }
    }

    #[test]
    fn junk_is_refused_or_decoded_without_harm(mut packed in prop::collection::vec(any::<u8>(), 0..600), keep in 0..3_usize) {
        for coding in Coding::ALL {
            let _ = decode(coding, [&packed[..]]);
        }
        // What begins well gets further.
        let coding = Coding::ALL[keep];
        let mut good = encode(coding, &Levels::default(), [(&sample(2000)[..], Step::End)]);
        let at = packed.len() * 7 % good.len();
        packed.truncate(5);
        good.splice(at..at, packed);
        let _ = decode(coding, [&good[..]]);
    }

    #[test]
    fn what_others_compress_is_decoded(text in prop::collection::vec(0..8_u8, 0..5000)) {
        let packed = ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
        prop_assert_eq!(&decode(Coding::Zstd, [&packed[..]]).unwrap(), &text);
        let raw = miniz_oxide::deflate::compress_to_vec(&text, 7);
        let mut gzip = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'n', 0];
        gzip.extend_from_slice(&raw);
        gzip.extend_from_slice(&zlib_rs::crc32::crc32(0, &text).to_le_bytes());
        gzip.extend_from_slice(&(text.len() as u32).to_le_bytes());
        prop_assert_eq!(&decode(Coding::Gzip, [&gzip[..]]).unwrap(), &text);
        let last = gzip.len() - 5;
        gzip[last] ^= 1;
        prop_assert_eq!(decode(Coding::Gzip, [&gzip[..]]), Err(CodecError), "a wrong check");
    }
}
