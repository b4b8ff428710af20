//! What is loaded counts: devices stay with it, and nobody waits for ever because of that.

use super::*;

/// 5 s to load, by the size of the weights; devices stay 45 s.
const WEIGHTS: u64 = 2_500_000_000;
const STAY_MS: i64 = 45_000;

fn heavy(name: &str, job: QueuedJob) -> QueuedJob {
    QueuedJob { weights_bytes: WEIGHTS, ..of_model(name, job) }
}

#[test]
fn a_device_stays_with_what_it_has_loaded_while_swaps_would_cost_too_much() {
    let jobs =
        [of_tenant("a", heavy("x", queued(1, 0, 10_000))), of_tenant("b", heavy("y", queued(2, 1, 10_000)))];
    let mut queue = queue(1, &["x", "y"], jobs);
    let (mut now, mut swaps, mut last) = (0, 0, None);
    for _ in 0..400 {
        let pick = grant_at(&mut queue, 1, now).unwrap();
        let swap_ms = if last == Some(pick.job) { 0 } else { 5_000 };
        swaps += i64::from(swap_ms > 0);
        last = Some(pick.job);
        let images = pick.range.len();
        let timing = Timing { images, total_ms: images * 1000 + swap_ms, first_ms: 1000 + swap_ms };
        now += timing.total_ms as i64;
        let (job, range, device) = (pick.job, pick.range, pick.device);
        queue.end(&Ended { job, range, device, timing: Some(timing) });
    }
    assert!(swaps >= 4, "both are served");
    assert!(swaps * 5_000 * 9 <= now, "{swaps} swaps in {now} ms");
}

#[test]
fn interactive_work_waits_for_what_is_loaded_no_longer_than_its_bound() {
    let mut queue = queue(1, &["x", "y"], [heavy("x", queued(1, 0, 10_000))]);
    grant_at(&mut queue, 1, 0).unwrap();
    queue.insert(heavy("y", interactive(queued(2, 0, 1))));
    assert_eq!(next_at(&mut queue, 1, 1000).unwrap().job, job(1));
    assert_eq!(next_at(&mut queue, 1, 31_000).unwrap().job, job(2));
}

#[test]
fn a_device_with_nothing_else_to_do_loads_what_is_wanted() {
    let mut queue = queue(1, &["x", "y"], [heavy("x", queued(1, 0, 1)), heavy("y", queued(2, 0, 1))]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    end(&mut queue, &first, 10);
    assert_eq!(next_at(&mut queue, 1, 1).unwrap().job, job(2));
}

#[test]
fn an_idle_device_leaves_little_work_to_one_that_has_it_loaded_but_not_for_ever() {
    let mut queue = queue(2, &["x"], [heavy("x", queued(1, 0, 4))]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    end(&mut queue, &first, 100);
    let none = queue.choose(device(2), 0, TARGET_MS).unwrap_err();
    assert!(next_at(&mut queue, 1, 0).is_some());
    assert!(none.due_ms.is_some_and(|due| next_at(&mut queue, 2, due).is_some()), "{none:?}");
}

#[test]
fn a_device_takes_its_part_of_much_work_that_others_have_loaded() {
    let mut queue = queue(2, &["x"], [heavy("x", queued(1, 0, 4_000))]);
    grant_at(&mut queue, 1, 0).unwrap();
    assert!(grant_at(&mut queue, 2, 0).is_some());
}

#[test]
fn a_swap_pays_for_the_warmth_that_it_wipes() {
    // Worker 2 has y loaded and will be through with what waits of it before another could load it and x again.
    let mut queue = queue(2, &["x", "y"], [heavy("x", queued(1, 0, 10_000))]);
    let x = grant_at(&mut queue, 1, 0).unwrap();
    end(&mut queue, &x, 1000);
    queue.stop(worker(1));
    queue.insert(of_tenant("b", heavy("y", queued(2, 0, 8))));
    queue.join(worker(2), [(0, offer(&["y"]))]);
    let y = grant_at(&mut queue, 2, 0).unwrap();
    end(&mut queue, &y, 1000);
    queue.join(worker(1), [(0, offer(&["x", "y"]))]);
    assert_eq!(next_at(&mut queue, 1, STAY_MS + 1).unwrap().job, job(1), "7 s of work are worth no 10 s");
}

#[test]
fn what_a_swap_takes_is_learnt_from_the_first_image() {
    let mut queue = queue(1, &["x", "y"], [heavy("x", queued(1, 0, 10_000))]);
    let warm_up = grant_at(&mut queue, 1, 0).unwrap();
    end(&mut queue, &warm_up, 1000);
    queue.insert(of_tenant("b", heavy("y", queued(2, 0, 10_000))));
    // x turned out to take no time to load beyond its first image, so nothing keeps the device with it.
    let pick = next_at(&mut queue, 1, STAY_MS).unwrap();
    assert_eq!(pick.job, job(2));
}
