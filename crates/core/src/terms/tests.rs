use super::*;

#[test]
fn names_are_short_and_plain() {
    for good in ["a", "pool:night", "team-7.b_c", &"x".repeat(64)] {
        assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
    }
    for bad in ["", "Upper", "with space", "ä", "a/b", &"x".repeat(65)] {
        let fault = bad.parse::<TenantName>().unwrap_err();
        assert_eq!(fault.code(), "NOT_A_NAME", "{bad}");
        assert!(fault.to_string().contains("64"), "{fault}");
    }
}

#[test]
fn terms_out_of_range_are_refused_with_value_and_limit() {
    let tags = |n: usize| (0..n).map(|i| format!("t{i}").parse().unwrap()).collect();
    let job = JobId::from_uuid(uuid::Uuid::from_u128(1));
    let refused = |terms: JobTerms| terms.check().unwrap_err().to_string();
    assert!(JobTerms::default().check().is_ok());
    assert!(refused(JobTerms { priority: 101, ..JobTerms::default() }).contains("101"));
    let requirements = Requirements { tags: tags(17), memory_bytes: 0 };
    assert!(refused(JobTerms { requirements, ..JobTerms::default() }).contains("17 tags"));
    assert!(refused(JobTerms { after: vec![job; 101], ..JobTerms::default() }).contains("101"));
    assert!(refused(JobTerms { max_devices: Some(0), ..JobTerms::default() }).contains("max_devices 0"));
    assert!(TenantPolicy { weight: 0, ..TenantPolicy::default() }.check().is_err());
}

#[test]
fn caps_stop_a_job_when_they_are_passed_and_not_before() {
    let caps = Caps { budget_ms: Some(100), max_failures: Some(2), min_image_ms: None };
    assert_eq!(caps.reached(99, 2), None);
    assert_eq!(caps.reached(100, 0), Some(Hold::Budget));
    assert_eq!(caps.reached(500, 3), Some(Hold::Failures));
    assert_eq!(Caps::default().reached(u64::MAX, u64::MAX), None);
}

#[test]
fn names_parse_back() {
    for hold in Hold::ALL {
        assert_eq!(Hold::from_name(hold.as_str()), Some(hold));
    }
    for urgency in Urgency::ALL {
        assert_eq!(Urgency::from_name(urgency.as_str()), Ok(urgency));
    }
    for key in [LimitKey::Model("m".into()), LimitKey::Licence("l".into())] {
        assert_eq!(LimitKey::new(key.kind(), key.name().to_owned()), Ok(key.clone()));
    }
}

#[test]
fn only_the_terms_that_are_named_change() {
    let before = JobTerms { priority: 1, max_devices: Some(3), ..JobTerms::default() };
    let other = JobTerms { priority: 5, urgency: Urgency::Interactive, ..JobTerms::default() };
    let fields = ["priority".to_owned(), "max_devices".to_owned()];
    let (after, words) = before.changed(&fields, &other).unwrap();
    assert_eq!(after, JobTerms { priority: 5, ..JobTerms::default() });
    assert_eq!(words, "priority 1 -> 5, max_devices 3 -> -");
    assert_eq!(before.changed(&["tenant".to_owned()], &other).unwrap_err().code(), "UNKNOWN_CHOICE");
    let steep = JobTerms { priority: 500, ..JobTerms::default() };
    assert_eq!(before.changed(&["priority".to_owned()], &steep).unwrap_err().code(), "PRIORITY_OUT_OF_RANGE");
}

#[test]
fn every_term_that_can_be_changed_is_shown_and_taken() {
    let job = JobId::from_uuid(uuid::Uuid::from_u128(1));
    let other = JobTerms {
        tenant: TenantName::default(),
        urgency: Urgency::Interactive,
        priority: 5,
        deadline_ms: Some(7),
        requirements: Requirements { tags: vec!["t".parse().unwrap()], memory_bytes: 8 },
        max_devices: Some(1),
        caps: Caps { budget_ms: Some(2), max_failures: Some(3), min_image_ms: Some(4) },
        after: vec![job],
        after_images: vec![job],
    };
    let fields = CHANGEABLE.map(str::to_owned);
    let (after, words) = JobTerms::default().changed(&fields, &other).unwrap();
    assert_eq!(after, other);
    assert!(CHANGEABLE.iter().all(|field| words.contains(field)), "{words}");
}
