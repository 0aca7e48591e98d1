//! Times of log lines. Invariant: a time that is no instant of the calendar is never read.

/// Reads the time of a combined log without its brackets, `17/May/2015:10:05:03 +0000`, as ms since
/// the Unix epoch. Says what is wrong otherwise.
#[inline]
pub fn clf(text: &[u8]) -> Result<i64, &'static str> {
    if text.len() != 26
        || text[2] != b'/'
        || text[6] != b'/'
        || text[11] != b':'
        || text[20] != b' '
    {
        return Err("a time such as 17/May/2015:10:05:03 +0000");
    }
    let month = match &text[3..6] {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return Err("a month: Jan, Feb, Mar, Apr, May, Jun, Jul, Aug, Sep, Oct, Nov or Dec"),
    };
    let day = day(digits(&text[7..11])?, month, digits(&text[..2])?)?;
    let seconds = clock(&text[12..20])?;
    Ok((day * 86_400 + seconds - zone(&text[21..])?) * 1000)
}

/// Reads an ISO 8601 time, `2015-05-13T23:39:43.945958Z`, with any number of fraction digits
/// (those below 1 ms are cut off) and `Z` or an offset such as `+02:00`.
#[inline]
pub fn iso(text: &[u8]) -> Result<i64, &'static str> {
    const SHAPE: &str = "a time such as 2015-05-13T23:39:43.945958Z";
    if text.len() < 20 || text[4] != b'-' || text[7] != b'-' || text[10] != b'T' {
        return Err(SHAPE);
    }
    let day = day(digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..10])?)?;
    let seconds = clock(&text[11..19])?;
    let mut rest = &text[19..];
    let mut ms = 0;
    if rest[0] == b'.' {
        let end = rest[1..].iter().position(|b| !b.is_ascii_digit()).ok_or(SHAPE)? + 1;
        if end == 1 {
            return Err(SHAPE);
        }
        for b in rest[1..end].iter().chain(b"00").take(3) {
            ms = ms * 10 + i64::from(b - b'0');
        }
        rest = &rest[end..];
    }
    let offset = match rest {
        b"Z" => 0,
        [sign, h1, h2, b':', m1, m2] => zone(&[*sign, *h1, *h2, *m1, *m2])?,
        _ => return Err(SHAPE),
    };
    Ok((day * 86_400 + seconds - offset) * 1000 + ms)
}

/// Days since the Unix epoch, in the proleptic Gregorian calendar.
fn day(year: i64, month: i64, day: i64) -> Result<i64, &'static str> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err("a month between 01 and 12"),
    };
    if day < 1 || day > length {
        return Err("a day that this month has");
    }
    // Years begin in March, so that the leap day comes last (Hinnant, days_from_civil).
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Ok(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Seconds of `hh:mm:ss`; second 60, a leap second, counts into the next minute.
fn clock(text: &[u8]) -> Result<i64, &'static str> {
    if text[2] != b':' || text[5] != b':' {
        return Err("a time of day such as 10:05:03");
    }
    let (h, m, s) = (digits(&text[..2])?, digits(&text[3..5])?, digits(&text[6..])?);
    if h > 23 || m > 59 || s > 60 {
        return Err("a time of day between 00:00:00 and 23:59:60");
    }
    Ok(h * 3600 + m * 60 + s)
}

/// Seconds east of UTC of `+hhmm`.
fn zone(text: &[u8]) -> Result<i64, &'static str> {
    let (h, m) = (digits(&text[1..3])?, digits(&text[3..5])?);
    if h > 23 || m > 59 {
        return Err("a zone offset between -2359 and +2359");
    }
    match text[0] {
        b'+' => Ok(h * 3600 + m * 60),
        b'-' => Ok(-(h * 3600 + m * 60)),
        _ => Err("a zone offset such as +0000"),
    }
}

fn digits(text: &[u8]) -> Result<i64, &'static str> {
    let mut number = 0;
    for b in text {
        if !b.is_ascii_digit() {
            return Err("digits in the time");
        }
        number = number * 10 + i64::from(b - b'0');
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_offsets_are_taken_off() {
        assert_eq!(clf(b"17/May/2015:10:05:03 +0000"), Ok(1_431_857_103_000));
        assert_eq!(clf(b"17/May/2015:12:05:03 +0200"), Ok(1_431_857_103_000));
        assert_eq!(clf(b"17/May/2015:04:35:03 -0530"), Ok(1_431_857_103_000));
        assert_eq!(clf(b"01/Jan/1970:00:00:00 +0000"), Ok(0));
        assert_eq!(clf(b"31/Dec/1969:23:59:59 +0000"), Ok(-1000));
    }

    #[test]
    fn days_that_a_month_does_not_have_are_refused() {
        assert_eq!(clf(b"29/Feb/2000:00:00:00 +0000"), Ok(951_782_400_000));
        assert_eq!(clf(b"29/Feb/2016:00:00:00 +0000"), Ok(1_456_704_000_000));
        for bad in ["29/Feb/1900", "29/Feb/2015", "31/Apr/2015", "00/May/2015", "32/Jan/2015"] {
            assert!(clf(format!("{bad}:00:00:00 +0000").as_bytes()).is_err(), "{bad}");
        }
        for bad in [
            "17/may/2015:10:05:03 +0000",
            "17/May/2015:24:05:03 +0000",
            "17/May/2015:10:05:03 +2500",
            "17/May/2015:10:05:03 00000",
            "17/May/2015 10:05:03 +0000",
            "1/May/2015:10:05:03 +0000",
            "",
        ] {
            assert!(clf(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_leap_second_is_the_first_of_the_next_minute() {
        assert_eq!(clf(b"31/Dec/2016:23:59:60 +0000"), clf(b"01/Jan/2017:00:00:00 +0000"));
    }

    #[test]
    fn iso_times_have_any_fraction() {
        assert_eq!(iso(b"2015-05-13T23:39:43.945958Z"), Ok(1_431_560_383_945));
        assert_eq!(iso(b"2015-05-13T23:39:43.9Z"), Ok(1_431_560_383_900));
        assert_eq!(iso(b"2015-05-13T23:39:43Z"), Ok(1_431_560_383_000));
        assert_eq!(iso(b"2015-05-14T01:39:43+02:00"), Ok(1_431_560_383_000));
        for bad in [
            "2015-05-13T23:39:43",
            "2015-05-13T23:39:43.",
            "2015-05-13T23:39:43.Z",
            "2015-13-13T23:39:43Z",
            "2015-05-13 23:39:43Z",
            "2015-05-13T23:39:43+0200",
        ] {
            assert!(iso(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
