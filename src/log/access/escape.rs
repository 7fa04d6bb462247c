//! Bytes of a stranger as text between quotes: valid JSON whatever they are, on one line, and harmless to a terminal.

/// Appends `bytes` as they stand between the quotes of a JSON string. Bytes that are no UTF-8 become U+FFFD, as
/// [`String::from_utf8_lossy`] has it; controls (those of terminals too) and what changes the direction of text are escaped.
pub(super) fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        write_text(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| needs_escape(*c)) {
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + c.len_utf8();
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            other => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                // All that is escaped has four digits.
                let code = other as u32;
                let digit = |shift: u32| DIGITS[(code >> shift & 15) as usize];
                out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}

fn needs_escape(c: char) -> bool {
    match c {
        '"' | '\\' => true,
        ' '..='~' => false,
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    }
}
