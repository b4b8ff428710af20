//! Whether a device renders or rests.

use super::hours;
use super::limits::{Idle, Limits, Power, Temperature};
use super::signs::{DeviceObservations, Observations, Reading, Sign};

/// A device this much above its temperature gives up even the image in the making, in degrees.
const FAR_ABOVE_C: f64 = 5.0;
/// How long a device that drew too much power rests at least: its draw falls as soon as it rests.
const POWER_REST_MS: i64 = 60_000;

/// How soon a device rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Haste {
    /// When the images in the making are rendered.
    AfterImage,
    /// At the next step: the images in the making are given up.
    AtOnce,
}

/// What a device is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Work.
    Render,
    /// Nothing, with its memory free.
    Rest {
        /// Why, for people. The words stay the same while the reason does.
        reason: String,
        /// How soon.
        haste: Haste,
    },
}

impl Verdict {
    /// Why it rests, if it does.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Render => None,
            Self::Rest { reason, .. } => Some(reason),
        }
    }
}

/// A reason to rest.
type Reason = (String, Haste);

/// Judges one device; remembers what must not flap.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// When the owner was last seen, and where.
    seen: Option<(i64, String)>,
    hot: bool,
    /// Since when it rests for its power.
    heavy_since_ms: Option<i64>,
}

impl Judge {
    /// What the device called `device` is to do now. Of several reasons to rest the first is told, and the
    /// most urgent decides how soon.
    pub fn judge(
        &mut self,
        limits: &Limits,
        device: &str,
        seen: &Observations,
        here: &DeviceObservations,
    ) -> Verdict {
        let reasons = [
            unlisted(limits, device),
            seen.paused.then(|| ("the owner's pause file is there".to_owned(), Haste::AtOnce)),
            self.owner(limits.idle.as_ref(), seen, here),
            hours::closed(&limits.hours, seen.time).map(|reason| (reason, Haste::AfterImage)),
            self.heat(limits.temperature, &here.temperature_c),
            self.power(limits.power, &here.watts, seen.now_ms),
        ];
        let mut reasons = reasons.into_iter().flatten();
        let Some((reason, haste)) = reasons.next() else { return Verdict::Render };
        Verdict::Rest { reason, haste: reasons.map(|(_, haste)| haste).fold(haste, Haste::max) }
    }

    /// The owner is here, or it cannot be told.
    fn owner(
        &mut self,
        idle: Option<&Idle>,
        seen: &Observations,
        here: &DeviceObservations,
    ) -> Option<Reason> {
        let Some(idle) = idle else {
            self.seen = None;
            return None;
        };
        let signs = || seen.signs.iter().chain(&here.signs);
        signs().for_each(|sign| self.note(sign, seen.now_ms));
        let minutes = idle.after_minutes;
        if let Some((at, source)) = &self.seen
            && seen.now_ms - at < i64::from(minutes) * 60_000
        {
            let reason =
                format!("the owner is here ({source}): work goes on {minutes} minutes after the last sign");
            return Some((reason, Haste::AtOnce));
        }
        let blind = signs().find_map(|sign| sign.since_ms.as_ref().err().map(|why| (&sign.source, why)));
        let (source, why) = blind?;
        let reason = format!("it cannot be told whether the owner is here: {source}: {why}");
        Some((reason, Haste::AfterImage))
    }

    /// Remembers the newest sign; of equally new ones the first.
    fn note(&mut self, sign: &Sign, now_ms: i64) {
        let Ok(Some(since)) = sign.since_ms else { return };
        let at = now_ms.saturating_sub(i64::try_from(since).unwrap_or(i64::MAX));
        if self.seen.as_ref().is_none_or(|(newest, _)| at > *newest) {
            self.seen = Some((at, sign.source.clone()));
        }
    }

    fn heat(&mut self, cap: Option<Temperature>, reading: &Reading<f64>) -> Option<Reason> {
        let Some(cap) = cap else {
            self.hot = false;
            return None;
        };
        let celsius = match reading {
            Ok(celsius) => *celsius,
            Err(why) => return Some((unreadable("temperature", why), Haste::AfterImage)),
        };
        self.hot = celsius > if self.hot { cap.resume() } else { cap.max_c };
        let far = celsius > cap.max_c + FAR_ABOVE_C;
        let reason = || format!("hotter than {} °C: it rests until it has {} °C", cap.max_c, cap.resume());
        self.hot.then(|| (reason(), if far { Haste::AtOnce } else { Haste::AfterImage }))
    }

    fn power(&mut self, cap: Option<Power>, reading: &Reading<f64>, now_ms: i64) -> Option<Reason> {
        let Some(cap) = cap else {
            self.heavy_since_ms = None;
            return None;
        };
        let watts = match reading {
            Ok(watts) => *watts,
            Err(why) => return Some((unreadable("power", why), Haste::AfterImage)),
        };
        let rested = self.heavy_since_ms.is_none_or(|since| now_ms - since >= POWER_REST_MS);
        if watts > cap.max_watts {
            self.heavy_since_ms.get_or_insert(now_ms);
        } else if rested && watts <= cap.resume() {
            self.heavy_since_ms = None;
        }
        self.heavy_since_ms?;
        let (most, resume) = (cap.max_watts, cap.resume());
        let reason =
            format!("it drew more than {most} W: it rests for a minute, and until it draws {resume} W");
        Some((reason, Haste::AfterImage))
    }
}

fn unlisted(limits: &Limits, device: &str) -> Option<Reason> {
    let listed = limits.devices.as_ref()?.iter().any(|listed| listed == device);
    (!listed).then(|| (format!("the owner's devices do not list {device}"), Haste::AfterImage))
}

fn unreadable(what: &str, why: &str) -> String {
    format!("its {what} has a limit and cannot be read: {why}")
}
