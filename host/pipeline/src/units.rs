//! Lengths of time and numbers of bytes as people write them.
//!
//! Invariant: what [`show_duration`] and [`show_bytes`] write, the parsers read back as the same
//! number.

/// A text that is no length of time or no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a length of time.
    #[error("{0:?} is no length of time; write 250ms, 30s, 15m, 2h or 1d")]
    Duration(String),
    /// Not a number of bytes.
    #[error("{0:?} is no number of bytes; write 500kB, 64MiB or 1GiB")]
    Bytes(String),
}

const DURATIONS: [(&str, i64); 8] = [
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

const BYTES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads a length of time such as `30m`, `1h 30m` or `250ms`, in milliseconds, never negative.
///
/// Units: ms, s (sec), m (min), h, d, w. Several parts add up.
///
/// # Errors
/// [`Error::Duration`] for anything else, also for what passes the range of 64 bits.
pub fn parse_duration(text: &str) -> Result<i64, Error> {
    let error = || Error::Duration(text.to_owned());
    let mut rest = text.trim();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let number: i64 = rest[..digits].parse().map_err(|_| error())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = DURATIONS.iter().find(|(name, _)| *name == &rest[..letters]);
        let (_, ms) = unit.ok_or_else(error)?;
        let part = number.checked_mul(*ms).ok_or_else(error)?;
        total = total.checked_add(part).ok_or_else(error)?;
        rest = rest[letters..].trim_start();
    }
    Ok(total)
}

/// Reads a number of bytes such as `64MiB`, `500 kB` or `0B`.
///
/// Units: B, kB, MB, GB (powers of 1,000), KiB, MiB, GiB (powers of 1,024).
///
/// # Errors
/// [`Error::Bytes`] for anything else, also for what passes the range of 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, Error> {
    let error = || Error::Bytes(text.to_owned());
    let whole = text.trim();
    let digits = whole.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let number: u64 = whole[..digits].parse().map_err(|_| error())?;
    let unit = whole[digits..].trim_start();
    let (_, size) = BYTES.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
    number.checked_mul(*size).ok_or_else(error)
}

/// Writes a length of time in the largest unit that divides it.
pub fn show_duration(ms: i64) -> String {
    let fits = |(_, unit): &&(&str, i64)| ms % unit == 0;
    let names = ["d", "h", "m", "s"];
    let unit = names.iter().filter_map(|n| DURATIONS.iter().find(|(name, _)| name == n)).find(fits);
    match unit {
        Some((name, size)) if ms != 0 => format!("{}{name}", ms / size),
        _ if ms == 0 => "0s".to_owned(),
        _ => format!("{ms}ms"),
    }
}

/// Writes a number of bytes in the largest power of 1,024 that divides it.
pub fn show_bytes(bytes: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)].into_iter();
    match unit
        .map(|(name, shift)| (name, 1u64 << shift))
        .find(|(_, size)| bytes.is_multiple_of(*size))
    {
        Some((name, size)) if bytes != 0 => format!("{}{name}", bytes / size),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_with_units() {
        assert_eq!(parse_duration("30m"), Ok(1_800_000));
        assert_eq!(parse_duration("1h 30m"), Ok(5_400_000));
        assert_eq!(parse_duration("1h30min"), Ok(5_400_000));
        assert_eq!(parse_duration(" 250 ms "), Ok(250));
        assert_eq!(parse_duration("2w"), Ok(1_209_600_000));
        assert_eq!(parse_duration("0s"), Ok(0));
        let bad = ["", " ", "30", "m", "3x", "-1s", "1.5s", "99999999999999999d", "1s,2s", "1 é"];
        for bad in bad {
            assert_eq!(parse_duration(bad), Err(Error::Duration(bad.to_owned())));
        }
    }

    #[test]
    fn sizes_are_read_with_units() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("1 GiB"), Ok(1 << 30));
        assert_eq!(parse_bytes("3KiB"), Ok(3 << 10));
        assert_eq!(parse_bytes("500kB"), Ok(500_000));
        assert_eq!(parse_bytes("2MB"), Ok(2_000_000));
        assert_eq!(parse_bytes("1GB"), Ok(1_000_000_000));
        assert_eq!(parse_bytes("17B"), Ok(17));
        for bad in ["", "17", "MiB", "1mib", "-1B", "1.5MiB", "99999999999GiB", "1MiB 1KiB"] {
            assert_eq!(parse_bytes(bad), Err(Error::Bytes(bad.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0i64..i64::MAX, bytes: u64) {
            prop_assert_eq!(parse_duration(&show_duration(ms)), Ok(ms));
            prop_assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_bytes(&text);
        }
    }
}
