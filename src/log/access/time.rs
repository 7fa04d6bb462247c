//! A moment of the wall clock as RFC 3339 has it.

use std::time::Duration;

/// Bytes of such a text.
pub(super) const TIME_BYTES: usize = "2026-11-21T19:24:11.123456Z".len();

/// `since_epoch` in UTC with microseconds: `2026-11-21T19:24:11.123456Z`. Years beyond 9999 are shown as the end of it.
pub(super) fn rfc3339(since_epoch: Duration) -> [u8; TIME_BYTES] {
    const LAST_SECOND: u64 = 253_402_300_799;
    let seconds = since_epoch.as_secs().min(LAST_SECOND);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |at: usize, digits: usize, number: u64| {
        let mut rest = number;
        for place in text[at..at + digits].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3600);
    put(14, 2, of_day / 60 % 60);
    put(17, 2, of_day % 60);
    put(20, 6, since_epoch.subsec_micros().into());
    text
}

/// Year, month and day of so many days after 1970-01-01 (Howard Hinnant's `civil_from_days`, for days that are not before
/// it): years begin in March, so that the leap day is the last of one, and repeat every 400.
fn civil(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_time_is_that_of_the_date_field() {
        // Each day of 150 years and some seconds of it, held against the formatter of `Date`.
        for day in 0..55_000_u64 {
            let since_epoch =
                Duration::new(day * 86_400 + day * 7919 % 86_400, (day * 1_000_003 % 1_000_000_000) as u32);
            let text = rfc3339(since_epoch);
            let text = str::from_utf8(&text).unwrap();
            let date = clock::format_date(since_epoch);
            let date = str::from_utf8(&date).unwrap();
            // `Sun, 06 Nov 1994 08:49:37 GMT`
            assert_eq!(text[..4], date[12..16], "{date}");
            assert_eq!(text[8..10], date[5..7], "{date}");
            assert_eq!(text[11..19], date[17..25], "{date}");
            let month: usize = text[5..7].parse().unwrap();
            let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
            assert_eq!(months[3 * month - 3..3 * month], date[8..11], "{date}");
            assert_eq!(text[20..26].parse(), Ok(since_epoch.subsec_micros()));
        }
        assert_eq!(&rfc3339(Duration::from_secs(1 << 60)), b"9999-12-31T23:59:59.000000Z");
    }
}
