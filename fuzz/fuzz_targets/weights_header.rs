//! The header of a `.safetensors` file: whatever its bytes, tensors that are accepted tile the data.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/engine/src/weights/header.rs"]
mod header;

fuzz_target!(|input: (u64, &[u8])| {
    let (data_bytes, json) = input;
    let _ = header::check_length(data_bytes, json.len() as u64);
    if let Ok(tensors) = header::parse(json, data_bytes) {
        assert!(tensors.values().all(|tensor| tensor.start <= tensor.end && tensor.end <= data_bytes));
    }
});
