//! JSON strings from bytes. Invariant: whatever the bytes, what is written is valid UTF-8 and JSON.

use crate::scan::plain_run;

/// For each byte the letter of its short escape, `u` for the long one, 0 for one that stands for
/// itself.
static ESCAPES: [u8; 256] = escapes();

const fn escapes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 0x20 {
        table[b] = b'u';
        b += 1;
    }
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0c] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
}

/// Appends the bytes as the inside of a string; what is not UTF-8 becomes U+FFFD.
#[inline]
pub fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = plain_run(bytes);
    out.extend_from_slice(&bytes[..plain]);
    if plain < bytes.len() {
        escaped(out, &bytes[plain..]);
    }
}

#[cold]
fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for b in chunk.valid().as_bytes() {
            match ESCAPES[usize::from(*b)] {
                0 => out.push(*b),
                escape => special(out, *b, escape),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn special(out: &mut Vec<u8>, b: u8, escape: u8) {
    out.extend_from_slice(&[b'\\', escape]);
    if escape == b'u' {
        let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
        out.extend_from_slice(&[b'0', b'0', digit(b >> 4), digit(b & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_read_back_as_their_lossy_text(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut json = vec![b'"'];
            text(&mut json, &bytes);
            json.push(b'"');
            let back: String = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_text_reads_back(string in any::<String>()) {
            let mut json = vec![b'"'];
            text(&mut json, string.as_bytes());
            json.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), string);
        }
    }
}
