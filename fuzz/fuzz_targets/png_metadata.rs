//! PNG files from strangers: metadata and pixels are read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let _ = seedfarm_picture::read_metadata(file);
    let _ = seedfarm_picture::decode(file);
});
