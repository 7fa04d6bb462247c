//! Bodies of every size for other decoders: `scripts/compress-sizes` reads what is written here with the reference libraries.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::tests::{encode, sample};
use super::{Levels, Step};
use crate::handler::Coding;

const SIZE_MAX: usize = 70_000;
/// Bytes of a piece, as a proxy hands them over and as a file is read.
const PIECES: [usize; 2] = [16 * 1024, 4 * 1024];

/// A body of `size` bytes in pieces: of every other size each comes out at once, of the others in groups of four.
fn packed(coding: Coding, text: &[u8]) -> Vec<u8> {
    let is_odd = text.len() % 2 == 1;
    let pieces = text.chunks(PIECES[usize::from(is_odd)]).enumerate().map(|(index, piece)| {
        let step = if is_odd && index % 4 != 3 { Step::Gather } else { Step::Flush };
        (piece, step)
    });
    encode(coding, &Levels::default(), pieces.chain([(&b""[..], Step::End)]))
}

/// The text, then for each size what it became; all lengths in four bytes, the lowest first.
fn write_all(coding: Coding, path: &Path) -> std::io::Result<()> {
    let (text, mut out) =
        (sample(SIZE_MAX), BufWriter::with_capacity(1 << 20, File::options().write(true).open(path)?));
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    out.write_all(&length(text.len()))?;
    out.write_all(&text)?;
    for size in 0..=SIZE_MAX {
        let packed = packed(coding, &text[..size]);
        out.write_all(&length(packed.len()))?;
        out.write_all(&packed)?;
    }
    out.flush()
}

/// Into the pipes `gzip`, `br` and `zstd` of the directory that `RINGFORT_SIZES_TO` names, as far as they are there.
#[test]
#[ignore = "takes minutes; scripts/compress-sizes runs it"]
fn bodies_of_every_size_are_written_for_other_decoders() {
    let Some(directory) = std::env::var_os("RINGFORT_SIZES_TO").map(PathBuf::from) else { return };
    std::thread::scope(|scope| {
        for coding in Coding::ALL {
            let path = directory.join(coding.name());
            if path.exists() {
                scope.spawn(move || write_all(coding, &path).unwrap());
            }
        }
    });
}
