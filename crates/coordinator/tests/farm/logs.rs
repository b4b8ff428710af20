//! What workers tell of their attempts is kept beside everything else, and read back.

use seedfarm_core::completion::Reception;
use seedfarm_proto::v1;
use seedfarm_proto::v1::session_request::Message as Ask;

use crate::support::{CALM, Farm, within};
use crate::worker::{Worker, hello};

async fn list(farm: &Farm, request: v1::ListLogsRequest) -> v1::ListLogsResponse {
    farm.operator().await.list_logs(request).await.unwrap().into_inner()
}

/// Waits until so many logs are there: they are written beside what they tell of.
async fn all(farm: &Farm, count: usize) -> Vec<v1::AttemptLog> {
    let written = async {
        loop {
            let logs = list(farm, v1::ListLogsRequest::default()).await.logs;
            if logs.len() >= count {
                return logs;
            }
        }
    };
    within(written).await
}

#[tokio::test]
async fn the_log_of_each_attempt_is_kept_and_found_by_job_image_worker_and_outcome() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let mut failing = Worker::connect(&farm, 1).await;
    let grant = failing.grant().await;
    let failure = v1::Failure { class: v1::FailureClass::Task.into(), error: "it broke".into() };
    let log = "    0.000 s  lease taken\n    1.000 s  \u{1b}[2Jit broke\n".to_owned();
    let complete = v1::Complete {
        fence: grant.fence,
        job_id: grant.job_id.clone(),
        failure: Some(failure),
        log,
        ..v1::Complete::default()
    };
    failing.say(Ask::Complete(complete)).await;
    assert_eq!(failing.settled().await, []);
    let mut rendering = Worker::connect(&farm, 2).await;
    let grant = rendering.grant().await;
    let complete = v1::Complete { log: "all went well\n".into(), ..rendering.render(&grant).await };
    rendering.say(Ask::Complete(complete.clone())).await;
    assert_eq!(rendering.settled().await, [Reception::Accepted]);
    rendering.say(Ask::Complete(complete)).await;
    assert_eq!(rendering.settled().await, [Reception::Repeated], "which leaves no second log");

    let logs = all(&farm, 2).await;
    let facts: Vec<_> = logs.iter().map(|log| (log.attempt, log.outcome.as_str(), log.lo, log.hi)).collect();
    assert_eq!(facts, [(2, "completed", 0, 1), (1, "task", 0, 1)], "newest first");
    assert_eq!(logs[0].text, "all went well\n");
    assert!(logs[1].text.contains("\u{fffd}[2Jit broke"), "nothing speaks to a terminal: {:?}", logs[1].text);

    let ask = v1::ListLogsRequest { job_id: job.id.clone(), ..v1::ListLogsRequest::default() };
    assert_eq!(list(&farm, ask.clone()).await.logs, logs);
    let failed = list(&farm, v1::ListLogsRequest { failed: true, ..ask.clone() }).await.logs;
    assert_eq!(failed, logs[1..]);
    let of_worker = v1::ListLogsRequest { worker_id: hello(2).worker_id, ..ask.clone() };
    assert_eq!(list(&farm, of_worker).await.logs, logs[..1]);
    assert_eq!(list(&farm, v1::ListLogsRequest { image: Some(0), ..ask.clone() }).await.logs, logs);
    assert_eq!(list(&farm, v1::ListLogsRequest { image: Some(1), ..ask.clone() }).await.logs, []);
    let first = list(&farm, v1::ListLogsRequest { limit: 1, ..ask.clone() }).await;
    let second = list(&farm, v1::ListLogsRequest { limit: 1, before: first.next, ..ask }).await;
    assert_eq!([first.logs, second.logs].concat(), logs);
}

#[tokio::test]
async fn an_image_without_its_job_is_refused() {
    let farm = Farm::start(CALM).await;
    let ask = v1::ListLogsRequest { image: Some(3), ..v1::ListLogsRequest::default() };
    let status = farm.operator().await.list_logs(ask).await.unwrap_err();
    assert!(status.message().contains("the job of the image"), "{status}");
}
