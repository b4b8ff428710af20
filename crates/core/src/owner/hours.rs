//! Hours of the week in which a worker renders, in local time.
//!
//! A time is a weekday and a minute, as a clock on the wall shows them: an hour that daylight saving repeats
//! or leaves out is in a window exactly when the wall shows it so.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are what they say")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    /// The week, from Monday.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The name in files and in messages.
    pub const fn as_str(self) -> &'static str {
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][self as usize]
    }

    const fn before(self) -> Self {
        Self::ALL[(self as usize + 6) % 7]
    }
}

/// What the clock on the wall shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The day.
    pub weekday: Weekday,
    /// Minutes since midnight, 0 to 1439.
    pub minute: u16,
}

/// A time of day, `00:00` to `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ClockTime(u16);

impl ClockTime {
    const MIDNIGHT: Self = Self(0);
    const END: Self = Self(DAY);
}

/// A text that is no time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time of day: write hours and minutes as in \"22:30\", at most \"24:00\"")]
pub struct NotATime(String);

impl FromStr for ClockTime {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let refused = || NotATime(text.chars().take(20).collect());
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let (hours, minutes) =
            text.split_once(':').filter(|(h, m)| digits(h) && digits(m)).ok_or_else(refused)?;
        let number = |part: &str| part.parse::<u16>().map_err(|_| refused());
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let time = hours * 60 + minutes;
        if minutes < 60 && time <= DAY { Ok(Self(time)) } else { Err(refused()) }
    }
}

impl TryFrom<String> for ClockTime {
    type Error = NotATime;
    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Hours of some days. One that ends before it begins runs over midnight into the next day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins; none for every day.
    #[serde(default)]
    pub days: Vec<Weekday>,
    /// When it begins.
    #[serde(default = "midnight")]
    pub from: ClockTime,
    /// When it ends; that minute is not in it.
    #[serde(default = "end_of_day")]
    pub to: ClockTime,
}

const fn midnight() -> ClockTime {
    ClockTime::MIDNIGHT
}

const fn end_of_day() -> ClockTime {
    ClockTime::END
}

impl Window {
    /// Whether it lasts for no time, or begins with the day's end.
    pub(super) fn is_void(&self) -> bool {
        self.from == self.to || self.from == ClockTime::END
    }

    /// Whether the wall shows a time in it.
    pub fn holds(&self, now: LocalTime) -> bool {
        if self.from < self.to {
            return self.begins_on(now.weekday) && (self.from.0..self.to.0).contains(&now.minute);
        }
        let evening = self.begins_on(now.weekday) && now.minute >= self.from.0;
        let morning = self.begins_on(now.weekday.before()) && now.minute < self.to.0;
        evening || morning
    }

    fn begins_on(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }

    /// Minutes on the wall until it begins next, and when that is.
    fn next(&self, now: LocalTime) -> Option<(u32, Weekday)> {
        let days = Weekday::ALL.into_iter().filter(|&day| self.begins_on(day));
        days.map(|day| (minutes_until(now, day, self.from.0), day)).min()
    }
}

fn minutes_until(now: LocalTime, day: Weekday, minute: u16) -> u32 {
    let of_week = |day: Weekday, minute: u16| day as u32 * u32::from(DAY) + u32::from(minute);
    let week = 7 * u32::from(DAY);
    (of_week(day, minute) + week - of_week(now.weekday, now.minute)) % week
}

/// Why these hours are none to render in; `None` when they are. No windows at all are no limit.
pub(super) fn closed(windows: &[Window], now: LocalTime) -> Option<String> {
    if windows.is_empty() || windows.iter().any(|window| window.holds(now)) {
        return None;
    }
    let next =
        windows.iter().filter_map(|window| window.next(now).map(|(away, day)| (away, day, window.from)));
    let (_, day, from) = next.min()?;
    Some(format!("outside the owner's hours; the next begin on {} at {from}", day.as_str()))
}
