//! HTTP: a job is submitted, followed, looked at and replayed without gRPC.

use seedfarm_core::ArtifactDigest;
use seedfarm_tests::farm::Gateway;
use seedfarm_tests::http::{Answer, request};
use seedfarm_tests::{Farm, look};
use serde_json::json;

struct Caller {
    gateway: Gateway,
    token: String,
}

impl Caller {
    fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [
            format!("Authorization: Bearer {}", self.token),
            "Content-Type: application/json".to_owned(),
            "Idempotency-Key: once".to_owned(),
        ];
        request(self.gateway.port, method, path, &headers, body)
    }

    fn get(&self, path: &str) -> Answer {
        let answer = self.send("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer
    }
}

#[test]
fn a_job_is_made_seen_and_proven_over_http() {
    let farm = Farm::start(1);
    let token = std::fs::read_to_string(farm.dir().join("data/client.token")).unwrap().trim().to_owned();
    let caller = Caller { gateway: farm.start_gateway(), token };

    let submission = json!({ "model": "emoji-starter", "prompts": ["banana on a purple background"], "seed": "5", "steps": 6 });
    let submitted = caller.send("POST", "/api/v1/jobs", &submission.to_string());
    assert_eq!(submitted.status, 200, "{submitted:?}");
    let again = caller.send("POST", "/api/v1/jobs", &submission.to_string()).json();
    assert_eq!(again["repeated"], true, "{again}");
    let job = submitted.json()["job"]["id"].as_str().unwrap().to_owned();

    let events = String::from_utf8(caller.get(&format!("/api/v1/jobs/{job}/events")).body).unwrap();
    let last = events.trim_end().rsplit("data: ").next().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["job"]["state"], "finished", "{events}");

    let images = caller.get(&format!("/api/v1/jobs/{job}/images")).json();
    let image = &images["images"][0];
    let digest = image["artifact_digest"].as_str().unwrap();
    let file = caller.get(&format!("/api/v1/artifacts/{digest}"));
    assert_eq!(ArtifactDigest::of_bytes(&file.body).to_string(), digest);
    assert!(file.head.to_lowercase().contains("content-type: image/png"), "{}", file.head);
    let picture = seedfarm_picture::decode(&file.body).unwrap();
    assert_eq!(look::pixel_digest(&picture), image["pixel_digest"].as_str().unwrap());

    let start = json!({ "image_id": image["id"] }).to_string();
    let replay = caller.send("POST", "/api/v1/replays", &start).json()["id"].as_str().unwrap().to_owned();
    let outcome = farm.until("the replay has a verdict", || {
        let replay = caller.get(&format!("/api/v1/replays/{replay}")).json();
        replay["outcome"].is_object().then(|| replay["outcome"].clone())
    });
    assert_eq!(outcome["verdict"], "exact", "{outcome}");
}

#[test]
fn a_stranger_and_a_bad_request_are_refused_as_json() {
    let farm = Farm::start(1);
    let token = std::fs::read_to_string(farm.dir().join("data/client.token")).unwrap().trim().to_owned();
    let caller = Caller { gateway: farm.start_gateway(), token };
    let stranger = request(caller.gateway.port, "GET", "/api/v1/jobs", &[], "");
    assert_eq!((stranger.status, stranger.json()["error"]["reason"].as_str()), (401, Some("WRONG_TOKEN")));
    let bad = json!({ "model": "emoji-starter", "prompts": ["a", { "prompt": "b", "width": 100 }] });
    let bad = caller.send("POST", "/api/v1/jobs", &bad.to_string());
    assert_eq!(bad.status, 400);
    assert_eq!(
        (&bad.json()["error"]["reason"], &bad.json()["error"]["line"]),
        (&json!("SIZE_NOT_A_MULTIPLE"), &json!(2))
    );
    assert_eq!(caller.get("/api/v1/jobs").json(), json!([]));
    let nowhere = caller.send("GET", "/api/v1/jobs/job_00000000000000000000000000000000", "");
    assert_eq!(nowhere.status, 404);
    let page = caller.get("/");
    assert!(
        page.head.to_lowercase().contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
}
