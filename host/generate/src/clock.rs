//! Writes times as `17/May/2015:10:05:03 +0000`. Invariant: what it keeps is the text of the last
//! second that was asked for.

/// A writer of times.
#[derive(Debug, Clone)]
pub struct Clock {
    second: i64,
    day: i64,
    text: [u8; 26],
}

const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

impl Clock {
    /// Starts with the epoch.
    pub fn new() -> Self {
        Self { second: 0, day: 0, text: *b"01/Jan/1970:00:00:00 +0000" }
    }

    /// The text of a second since the epoch, of the years 1970 to 9999.
    #[inline]
    pub fn text(&mut self, second: i64) -> &[u8; 26] {
        if second != self.second {
            let day = second.div_euclid(86_400);
            if day != self.day {
                self.date(day);
            }
            let of_day = second.rem_euclid(86_400) as u32;
            two(&mut self.text[12..14], of_day / 3600);
            two(&mut self.text[15..17], of_day / 60 % 60);
            two(&mut self.text[18..20], of_day % 60);
            self.second = second;
        }
        &self.text
    }

    /// Hinnant, civil_from_days: years that begin in March.
    #[cold]
    fn date(&mut self, day: i64) {
        self.day = day;
        let shifted = day + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = (march_month + 2) % 12;
        let year = (era * 400 + year + i64::from(month < 2)) as u32;
        two(&mut self.text[..2], (of_year - (153 * march_month + 2) / 5 + 1) as u32);
        self.text[3..6].copy_from_slice(&MONTHS[month as usize * 3..][..3]);
        two(&mut self.text[7..9], year / 100);
        two(&mut self.text[9..11], year % 100);
    }
}

fn two(out: &mut [u8], number: u32) {
    out[0] = b'0' + (number / 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(second: i64) -> String {
        String::from_utf8(Clock::new().text(second).to_vec()).unwrap()
    }

    #[test]
    fn times_are_written_as_servers_do() {
        assert_eq!(text(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(text(1_431_857_103), "17/May/2015:10:05:03 +0000");
        assert_eq!(text(951_782_400), "29/Feb/2000:00:00:00 +0000");
        assert_eq!(text(1_704_067_199), "31/Dec/2023:23:59:59 +0000");
        assert_eq!(text(253_402_300_799), "31/Dec/9999:23:59:59 +0000");
    }

    #[test]
    fn going_back_in_time_does_no_harm() {
        let mut clock = Clock::new();
        clock.text(1_431_857_103);
        assert_eq!(clock.text(1_431_820_799), b"16/May/2015:23:59:59 +0000");
        assert_eq!(clock.text(1_431_857_103), b"17/May/2015:10:05:03 +0000");
    }
}
