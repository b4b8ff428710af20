use proptest::prelude::*;

use super::*;
use crate::recipe::{Recipe, RecipeTemplate};

const fn at(weekday: Weekday, minute: u16) -> LocalTime {
    LocalTime { weekday, minute }
}

fn window(days: &[Weekday], from: &str, to: &str) -> Window {
    Window { days: days.to_vec(), from: from.parse().unwrap(), to: to.parse().unwrap() }
}

fn quiet(now_ms: i64) -> Observations {
    Observations { now_ms, time: at(Weekday::Mon, 720), paused: false, signs: Vec::new() }
}

fn cool() -> DeviceObservations {
    DeviceObservations { signs: Vec::new(), temperature_c: Ok(40.0), watts: Ok(50.0) }
}

fn sign(since_ms: Option<u64>) -> Sign {
    Sign { source: "terminals".into(), since_ms: Ok(since_ms) }
}

fn idle(after_minutes: u32) -> Limits {
    let idle = Idle { after_minutes, watch: None, busy_command: None, busy_cpu_percent: None };
    Limits { idle: Some(idle), ..Limits::default() }
}

fn haste(verdict: &Verdict) -> Option<Haste> {
    match verdict {
        Verdict::Render => None,
        Verdict::Rest { haste, .. } => Some(*haste),
    }
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let night = window(&[Weekday::Fri], "22:00", "07:00");
    assert!(night.holds(at(Weekday::Fri, 22 * 60)) && night.holds(at(Weekday::Sat, 6 * 60 + 59)));
    assert!(!night.holds(at(Weekday::Sat, 7 * 60)) && !night.holds(at(Weekday::Fri, 6 * 60)));
    let sunday = window(&[Weekday::Sun], "23:00", "01:00");
    assert!(sunday.holds(at(Weekday::Mon, 59)) && !sunday.holds(at(Weekday::Sun, 59)));
}

#[test]
fn outside_its_hours_a_device_finishes_its_image_and_says_when_the_next_begin() {
    let hours = vec![window(&[Weekday::Mon], "06:00", "07:00"), window(&[Weekday::Mon], "20:00", "24:00")];
    let limits = Limits { hours, ..Limits::default() };
    let verdict = Judge::default().judge(&limits, "cpu", &quiet(0), &cool());
    assert_eq!(haste(&verdict), Some(Haste::AfterImage));
    assert!(verdict.reason().unwrap().ends_with("on mon at 20:00"), "{verdict:?}");
    let later = Observations { time: at(Weekday::Tue, 0), ..quiet(0) };
    let verdict = Judge::default().judge(&limits, "cpu", &later, &cool());
    assert!(verdict.reason().unwrap().ends_with("on mon at 06:00"), "{verdict:?}");
}

#[test]
fn no_limits_let_every_device_render_and_a_pause_file_stops_each_at_once() {
    let limits = Limits::default();
    assert_eq!(Judge::default().judge(&limits, "cpu", &quiet(0), &cool()), Verdict::Render);
    let paused = Observations { paused: true, ..quiet(0) };
    let verdict = Judge::default().judge(&limits, "cpu", &paused, &cool());
    assert_eq!(haste(&verdict), Some(Haste::AtOnce));
}

#[test]
fn an_owner_who_is_back_stops_work_at_once_until_minutes_after_the_last_sign() {
    let (limits, mut judge) = (idle(2), Judge::default());
    let mut see = |now_ms, since| {
        let seen = Observations { signs: vec![sign(since)], ..quiet(now_ms) };
        haste(&judge.judge(&limits, "cpu", &seen, &cool()))
    };
    assert_eq!(see(0, Some(10 * 60_000)), None);
    assert_eq!(see(1000, Some(0)), Some(Haste::AtOnce));
    // A place without a memory says that there was never a sign; the judge remembers the one it saw.
    assert_eq!(see(2000, None), Some(Haste::AtOnce));
    assert_eq!(see(1000 + 119_999, None), Some(Haste::AtOnce));
    assert_eq!(see(1000 + 120_000, None), None);
}

#[test]
fn what_cannot_be_read_while_it_has_a_limit_never_renders() {
    let blind = || Err::<f64, _>("no sensor".to_owned());
    let here = DeviceObservations { signs: Vec::new(), temperature_c: blind(), watts: blind() };
    let heat = Limits { temperature: Some(Temperature { max_c: 80.0, resume_c: None }), ..Limits::default() };
    let power = Limits { power: Some(Power { max_watts: 200.0, resume_watts: None }), ..Limits::default() };
    for limits in [heat, power] {
        let verdict = Judge::default().judge(&limits, "cuda:0", &quiet(0), &here);
        assert!(verdict.reason().unwrap().ends_with("cannot be read: no sensor"), "{verdict:?}");
    }
    let signs = vec![Sign { source: "logind".into(), since_ms: Err("it does not answer".into()) }];
    let verdict = Judge::default().judge(&idle(1), "cpu", &Observations { signs, ..quiet(0) }, &here);
    assert!(verdict.reason().unwrap().contains("logind: it does not answer"), "{verdict:?}");
    assert_eq!(Judge::default().judge(&Limits::default(), "cpu", &quiet(0), &here), Verdict::Render);
}

#[test]
fn a_device_that_is_far_too_hot_gives_up_its_image() {
    let limits =
        Limits { temperature: Some(Temperature { max_c: 80.0, resume_c: None }), ..Limits::default() };
    for (celsius, expected) in [(80.0, None), (81.0, Some(Haste::AfterImage)), (86.0, Some(Haste::AtOnce))] {
        let here = DeviceObservations { temperature_c: Ok(celsius), ..cool() };
        assert_eq!(haste(&Judge::default().judge(&limits, "cpu", &quiet(0), &here)), expected);
    }
}

#[test]
fn the_first_reason_is_told_and_the_most_urgent_decides() {
    let limits = Limits {
        devices: Some(vec!["cuda:1".into()]),
        temperature: Some(Temperature { max_c: 80.0, resume_c: None }),
        ..Limits::default()
    };
    let here = DeviceObservations { temperature_c: Ok(95.0), ..cool() };
    let verdict = Judge::default().judge(&limits, "cuda:0", &quiet(0), &here);
    assert!(verdict.reason().unwrap().contains("do not list cuda:0"));
    assert_eq!(haste(&verdict), Some(Haste::AtOnce));
}

fn template() -> RecipeTemplate {
    Recipe::from_json(include_str!("../recipe/golden_recipe.json")).unwrap().template
}

#[test]
fn work_is_refused_with_the_value_and_the_limit() {
    let template = template();
    let pixels = u64::from(template.width * template.height);
    let refusal = |acceptance: Acceptance| acceptance.refuses(&template);
    assert_eq!(refusal(Acceptance::default()), None);
    assert_eq!(refusal(Acceptance { max_pixels: Some(pixels), ..Acceptance::default() }), None);
    let why = refusal(Acceptance { max_pixels: Some(pixels - 1), ..Acceptance::default() }).unwrap();
    assert!(why.contains(&pixels.to_string()) && why.contains(&(pixels - 1).to_string()), "{why}");
    let why = refusal(Acceptance { max_steps: Some(1), ..Acceptance::default() }).unwrap();
    assert!(why.contains("more than the 1"), "{why}");
    let mut following = template.clone();
    following.extras.loras.push(crate::recipe::Lora {
        digest: crate::AdapterDigest::of_bytes(b"lora"),
        weight: 1.0,
        text_weight: 1.0,
    });
    let acceptance = Acceptance { refused: [Feature::Adapters].into(), ..Acceptance::default() };
    assert_eq!(acceptance.refuses(&template), None);
    assert!(acceptance.refuses(&following).unwrap().contains("adapters"));
}

#[test]
fn models_are_accepted_by_patterns_of_name_or_digest() {
    let pattern = |text: &str| Pattern(text.into());
    let models = Models { accept: vec![pattern("sd-*"), pattern("3fa9*")], refuse: vec![pattern("*-nsfw")] };
    let limits = Limits { models, ..Limits::default() };
    let digest = "3fa9".to_owned() + &"0".repeat(60);
    assert!(limits.accepts_model("sd-xl", "00") && limits.accepts_model("other", &digest));
    assert!(!limits.accepts_model("other", "00") && !limits.accepts_model("sd-1-nsfw", "00"));
}

#[test]
fn limits_that_cannot_be_meant_are_refused_by_name() {
    let refused = |limits: Limits| limits.check().unwrap_err().to_string();
    let heat = Temperature { max_c: 80.0, resume_c: Some(90.0) };
    assert!(
        refused(Limits { temperature: Some(heat), ..Limits::default() })
            .contains("temperature.resume_c is 90")
    );
    assert!(refused(idle(0)).contains("idle.after_minutes is 0"));
    let hours = vec![window(&[], "10:00", "10:00")];
    assert!(refused(Limits { hours, ..Limits::default() }).contains("hold no time"));
    assert!(refused(Limits { disk: Some(ByteSize(1)), ..Limits::default() }).contains("at least 1 GiB"));
    let tags = (0..17).map(|n| format!("t{n}").parse().unwrap()).collect();
    assert!(refused(Limits { tags, ..Limits::default() }).contains("tags lists 17"));
    assert_eq!(Limits::default().check(), Ok(()));
}

#[test]
fn disk_is_shared_by_outbox_and_models_without_a_rest() {
    for gib in [1, 3, 100] {
        let limits = Limits { disk: Some(ByteSize(gib << 30)), ..Limits::default() };
        assert_eq!(limits.outbox_bytes().unwrap() + limits.model_cache_bytes().unwrap(), gib << 30);
        assert!(limits.outbox_bytes().unwrap() <= 4 << 30);
    }
    assert_eq!(Limits::default().model_cache_bytes(), None);
}

#[test]
fn sizes_and_times_are_read_as_people_write_them() {
    for (text, bytes) in [("8 GiB", 8 << 30), ("500MB", 500_000_000), ("12 b", 12)] {
        assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes);
    }
    for text in ["", "GiB", "8", "-1 GB", "99999999999 TiB", "8 GiBs"] {
        assert!(text.parse::<ByteSize>().is_err(), "{text}");
    }
    for text in ["7:00", "24:01", "12:60", "noon", "+1:00", ""] {
        assert!(text.parse::<ClockTime>().is_err(), "{text}");
    }
    assert_eq!("24:00".parse::<ClockTime>().unwrap().to_string(), "24:00");
}

/// Whether a pattern matches, as a definition that tries every way.
fn matches_slowly(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|cut| matches_slowly(rest, &text[cut..])),
        Some((c, rest)) => {
            text.split_first().is_some_and(|(t, after)| (*c == '?' || c == t) && matches_slowly(rest, after))
        }
    }
}

fn weekday() -> impl Strategy<Value = Weekday> {
    (0..7_usize).prop_map(|day| Weekday::ALL[day])
}

fn clock(minute: u16) -> ClockTime {
    format!("{:02}:{:02}", minute / 60, minute % 60).parse().unwrap()
}

/// The minutes of the week that a window holds, as a definition: from each begin, minute by minute.
fn minutes_of(window: &Window, from: u16, to: u16) -> std::collections::BTreeSet<u32> {
    let length = u32::from(if from < to { to - from } else { to + 1440 - from });
    let days = Weekday::ALL.iter().filter(|day| window.days.is_empty() || window.days.contains(day));
    let begins = days.map(|&day| day as u32 * 1440 + u32::from(from));
    begins.flat_map(|begin| (begin..begin + length).map(|minute| minute % (7 * 1440))).collect()
}

proptest! {
    #[test]
    fn a_window_holds_the_minutes_from_each_begin_to_its_end(
        days in proptest::collection::vec(weekday(), 0..4), from in 0_u16..1440, to in 0_u16..=1440,
    ) {
        prop_assume!(from != to);
        let window = Window { days, from: clock(from), to: clock(to) };
        let expected = minutes_of(&window, from, to);
        for minute in 0..7 * 1440_u32 {
            let now = at(Weekday::ALL[(minute / 1440) as usize], (minute % 1440) as u16);
            prop_assert_eq!(window.holds(now), expected.contains(&minute), "{:?}", now);
        }
    }

    #[test]
    fn a_pattern_matches_what_its_definition_says(pattern in "[ab?*]{0,8}", text in "[ab]{0,10}") {
        let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        prop_assert_eq!(Pattern(pattern).matches(&text), matches_slowly(&p, &t));
    }

    #[test]
    fn heat_does_not_flap(readings in proptest::collection::vec(60.0_f64..100.0, 1..200)) {
        let cap = Temperature { max_c: 85.0, resume_c: Some(75.0) };
        let limits = Limits { temperature: Some(cap), ..Limits::default() };
        let (mut judge, mut rested) = (Judge::default(), false);
        for celsius in readings {
            let here = DeviceObservations { temperature_c: Ok(celsius), ..cool() };
            let rests = judge.judge(&limits, "cpu", &quiet(0), &here) != Verdict::Render;
            // Between the bounds it goes on doing what it did.
            let expected = if celsius > 85.0 { true } else if celsius <= 75.0 { false } else { rested };
            prop_assert_eq!(rests, expected);
            rested = rests;
        }
    }

    #[test]
    fn power_changes_the_verdict_at_most_twice_a_minute(
        readings in proptest::collection::vec(0.0_f64..400.0, 1..300),
    ) {
        let limits = Limits { power: Some(Power { max_watts: 200.0, resume_watts: None }), ..Limits::default() };
        let (mut judge, mut since) = (Judge::default(), None::<i64>);
        for (second, watts) in (0_i64..).zip(readings) {
            let here = DeviceObservations { watts: Ok(watts), ..cool() };
            let rests = judge.judge(&limits, "cpu", &quiet(second * 1000), &here) != Verdict::Render;
            prop_assert!(rests || watts <= 200.0);
            if let (false, Some(begun)) = (rests, since) {
                prop_assert!(second * 1000 - begun >= 60_000 && watts <= 160.0);
            }
            since = rests.then(|| since.unwrap_or(second * 1000));
        }
    }

    #[test]
    fn a_device_renders_only_when_no_sign_is_newer_than_the_owner_allows(
        signs in proptest::collection::vec(proptest::option::of(0_u64..400_000), 1..100), minutes in 1_u32..5,
    ) {
        let (limits, mut judge, mut newest) = (idle(minutes), Judge::default(), None::<i64>);
        for (second, since) in (0_i64..).zip(signs) {
            let now = second * 1000;
            newest = newest.max(since.map(|since| now - since as i64));
            let seen = Observations { signs: vec![sign(since)], ..quiet(now) };
            let renders = judge.judge(&limits, "cpu", &seen, &cool()) == Verdict::Render;
            prop_assert_eq!(renders, newest.is_none_or(|at| now - at >= i64::from(minutes) * 60_000));
        }
    }
}
