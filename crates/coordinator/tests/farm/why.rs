//! Why a job waits, and why a worker idles, over the wire.

use seedfarm_proto::v1;
use seedfarm_proto::v1::explain_response::Outlook;
use tonic::Code;

use crate::support::{CALM, Farm};
use crate::worker::Worker;

async fn explain(farm: &Farm, id: &str) -> Outlook {
    let request = v1::ExplainRequest { id: id.to_owned() };
    farm.operator().await.explain(request).await.unwrap().into_inner().outlook.unwrap()
}

fn codes(reasons: &[v1::Reason]) -> Vec<&str> {
    reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[tokio::test]
async fn a_job_and_a_worker_say_why_nothing_happens() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let Outlook::Job(waiting) = explain(&farm, &job.id).await else { panic!("a job was asked for") };
    assert_eq!((waiting.waiting, codes(&waiting.reasons)), (1, vec!["nobody"]));

    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    let Outlook::Job(leased) = explain(&farm, &job.id).await else { panic!("a job was asked for") };
    assert_eq!((leased.leased, leased.devices), (1, 1));
    assert!(codes(&leased.reasons).contains(&"all_leased"));
    let Outlook::Worker(busy) = explain(&farm, &worker.id).await else { panic!("a worker was asked for") };
    assert_eq!((busy.devices[0].leases, busy.devices[0].credit), (1, 1));
    assert_eq!(codes(&busy.devices[0].reasons), ["all_leased"]);

    worker.complete(&grant).await;
    worker.settled().await;
    let Outlook::Job(over) = explain(&farm, &job.id).await else { panic!("a job was asked for") };
    assert_eq!(codes(&over.reasons), ["final"]);
    let Outlook::Worker(idle) = explain(&farm, &worker.id).await else { panic!("a worker was asked for") };
    assert_eq!(codes(&idle.devices[0].reasons), ["no_jobs"]);
}

#[tokio::test]
async fn what_is_unknown_is_refused_with_the_way_out() {
    let farm = Farm::start(CALM).await;
    let mut operator = farm.operator().await;
    for (id, code) in [
        ("nonsense", Code::InvalidArgument),
        ("job_00000000000000000000000000000001", Code::NotFound),
        ("worker_00000000000000000000000000000009", Code::NotFound),
    ] {
        let refused = operator.explain(v1::ExplainRequest { id: id.to_owned() }).await.unwrap_err();
        assert_eq!(refused.code(), code, "{id}: {}", refused.message());
    }
}
