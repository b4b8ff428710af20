//! What the clock on the wall shows, by the machine's own time zone.

use jiff::ZonedDateTime;
use jiff::civil::Weekday as Day;
use seedfarm_core::owner::{LocalTime, Weekday};

/// The local time now.
pub(super) fn local_time() -> LocalTime {
    shown(&ZonedDateTime::now())
}

fn shown(now: &ZonedDateTime) -> LocalTime {
    let weekday = match now.weekday() {
        Day::Monday => Weekday::Mon,
        Day::Tuesday => Weekday::Tue,
        Day::Wednesday => Weekday::Wed,
        Day::Thursday => Weekday::Thu,
        Day::Friday => Weekday::Fri,
        Day::Saturday => Weekday::Sat,
        Day::Sunday => Weekday::Sun,
    };
    LocalTime {
        weekday,
        minute: u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_by_its_zone_before_and_after_the_clocks_change() {
        // 2026-03-29 in Berlin: 02:00 becomes 03:00; 2026-03-29 is a Sunday.
        let berlin = |text: &str| {
            let moment: jiff::Timestamp = text.parse().unwrap();
            let now = moment.in_tz("Europe/Berlin").unwrap();
            (shown(&now).weekday, shown(&now).minute)
        };
        assert_eq!(berlin("2026-03-29T00:59:00Z"), (Weekday::Sun, 119));
        assert_eq!(berlin("2026-03-29T01:00:00Z"), (Weekday::Sun, 180));
        assert_eq!(berlin("2026-03-29T22:00:00Z"), (Weekday::Mon, 0));
    }
}
