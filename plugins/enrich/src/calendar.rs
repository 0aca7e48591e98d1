//! Days and hours of instants, in UTC, in the proleptic Gregorian calendar. Invariant: the year is 0
//! to 9999, so that it has four digits.

/// A day's length in ms.
const DAY_MS: i64 = 86_400_000;

/// An instant, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// 0 to 9999.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 1 (Monday) to 7.
    pub day_of_week: i64,
    /// Milliseconds since midnight.
    pub of_day_ms: i64,
}

impl Moment {
    /// Takes ms since the Unix epoch apart; none outside of the years 0 to 9999.
    pub fn of(ms: i64) -> Option<Self> {
        let days = ms.div_euclid(DAY_MS);
        // Hinnant, civil_from_days: years that begin in March.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let of_era_year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * of_era_year + of_era_year / 4 - of_era_year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + of_era_year + i64::from(month <= 2);
        (0..=9999).contains(&year).then_some(Self {
            year,
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            day_of_week: (days + 3).rem_euclid(7) + 1,
            of_day_ms: ms.rem_euclid(DAY_MS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_fall_on_their_days() {
        let date = |ms| {
            let m = Moment::of(ms).unwrap();
            (m.year, m.month, m.day, m.day_of_week, m.of_day_ms)
        };
        assert_eq!(date(0), (1970, 1, 1, 4, 0));
        assert_eq!(date(-1), (1969, 12, 31, 3, DAY_MS - 1));
        assert_eq!(date(1_431_857_103_000), (2015, 5, 17, 7, 36_303_000));
        assert_eq!(date(951_782_400_000), (2000, 2, 29, 2, 0));
        assert_eq!(date(253_402_300_799_999), (9999, 12, 31, 5, DAY_MS - 1));
        assert_eq!(Moment::of(253_402_300_800_000), None);
        assert_eq!(Moment::of(i64::MAX), None);
        assert_eq!(Moment::of(i64::MIN), None);
    }
}
