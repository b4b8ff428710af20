//! The wire: generated gRPC types, conversions to and from core, error codes.
//!
//! Generated types stop at the service layer: a handler turns them into core's types first, and
//! whatever does not fit is refused there, once, with a reason.

pub mod convert;
pub mod error;
pub mod json;

/// The generated types of `seedfarm.v1`.
#[expect(missing_docs, clippy::all, reason = "generated; the .proto files hold the documentation")]
pub mod v1 {
    tonic::include_proto!("seedfarm.v1");
}

/// The encoded `FileDescriptorSet` of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Most bytes of one message on the wire, in either direction: a submission of many prompts, or a
/// picture sent along with a replay.
pub const MAX_MESSAGE_BYTES: usize = 96 << 20;

/// The version of the workers' protocol that this program speaks. It is raised when a worker and a
/// coordinator would misunderstand one another without knowing it.
pub const PROTOCOL: u32 = 1;

/// The oldest version of the workers' protocol that a coordinator of this program still speaks.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Bytes of one chunk of a file.
pub const CHUNK_BYTES: usize = 1 << 20;
