//! Finds bytes eight at a time. Invariant: every answer is that of looking at each byte in turn.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The highest bit of each byte that is 0. Bytes behind the first such may be marked by mistake, so
/// only the lowest mark counts.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// How many bytes at the front are printable ASCII other than `"` and `\`.
#[inline]
pub fn plain_run(bytes: &[u8]) -> usize {
    run(
        bytes,
        |word| {
            // Below 0x20, above 0x7e.
            let low = word.wrapping_sub(ONES * 0x20) & !word;
            let high = word | zeros(word ^ (ONES * 0x7f));
            let quotes = zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c));
            (low | high | quotes) & HIGHS
        },
        |b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\',
    )
}

/// How many bytes at the front are not `byte`.
#[inline]
pub fn run_without(bytes: &[u8], byte: u8) -> usize {
    run(bytes, |word| zeros(word ^ (ONES * u64::from(byte))), |b| b != byte)
}

/// How many bytes at the front of a target can stay as they are and end nothing: none of `%#?`.
#[inline]
pub fn target_run(bytes: &[u8]) -> usize {
    run(
        bytes,
        |word| {
            zeros(word ^ (ONES * 0x25)) | zeros(word ^ (ONES * 0x23)) | zeros(word ^ (ONES * 0x3f))
        },
        |b| b != b'%' && b != b'#' && b != b'?',
    )
}

#[inline(always)]
fn run(bytes: &[u8], marks: impl Fn(u64) -> u64, goes_on: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return i * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + rest.iter().position(|b| !goes_on(*b)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            6 => b' '..=b'~',
            1 => prop::sample::select(vec![0, 0x1f, b' ', b'!', b'"', b'#', b'%', b'?', b'[', b'\\', b']', 0x7e, 0x7f, 0x80, 0xff]),
            1 => any::<u8>(),
        ];
        prop::collection::vec(byte, 0..40)
    }

    proptest! {
        #[test]
        fn runs_end_where_looking_at_each_byte_says(bytes in bytes()) {
            let position = |ends: fn(u8) -> bool| {
                bytes.iter().position(|b| ends(*b)).unwrap_or(bytes.len())
            };
            let special = |b: u8| !(0x20..0x7f).contains(&b) || b == b'"' || b == b'\\';
            prop_assert_eq!(plain_run(&bytes), position(special));
            prop_assert_eq!(run_without(&bytes, b' '), position(|b| b == b' '));
            prop_assert_eq!(target_run(&bytes), position(|b| b"%#?".contains(&b)));
        }
    }
}
