//! Handing pictures over, for jobs to start from or follow.

use std::time::Duration;

use seedfarm_core::ArtifactDigest;
use seedfarm_proto::{CHUNK_BYTES, v1};
use tonic::{Code, Status};

use crate::client::Farm;

/// How often a picture is sent again when the farm is away or busy.
const TRIES: u32 = 3;

/// Sends one PNG file; sending it twice is no harm.
///
/// # Errors
/// If the farm refuses it, as for a file that is no picture.
pub async fn put(farm: &Farm, png: &[u8]) -> Result<v1::PutPictureResponse, Status> {
    let mut tries = 1;
    loop {
        let answer = farm.jobs().put_picture(tokio_stream::iter(messages(png))).await;
        match answer {
            Err(status) if passes(status.code()) && tries < TRIES => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                tries += 1;
            }
            answer => return answer.map(tonic::Response::into_inner),
        }
    }
}

const fn passes(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted)
}

/// The file in pieces; the first says what they must come to.
fn messages(png: &[u8]) -> Vec<v1::PutPictureRequest> {
    let mut digest = ArtifactDigest::of_bytes(png).to_string();
    let message = |data: &[u8]| v1::PutPictureRequest {
        digest: std::mem::take(&mut digest),
        chunk: Some(v1::Chunk { data: data.to_vec() }),
    };
    png.chunks(CHUNK_BYTES).map(message).collect()
}
