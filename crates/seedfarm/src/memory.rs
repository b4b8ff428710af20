//! The allocator of this program.
//!
//! A render makes and drops tensors of many megabytes, step after step. The system's allocator gives each
//! back at once and gets it anew from the kernel, which fills it with zeros: a sixth of a large decoder's time.
//! mimalloc keeps what was freed for a while instead. See docs/adr/0007.

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3, which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;
/// How long freed memory stays with the program, in milliseconds.
const KEPT_MS: std::ffi::c_long = 600_000;

/// The variable by which mimalloc itself is told another time.
const VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

/// Keeps freed memory for ten minutes, unless MIMALLOC_PURGE_DELAY says otherwise. Call it before there
/// are other threads.
pub fn keep_freed_memory() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: the function only needs that no other thread sets options.
        unsafe { mi_option_set(PURGE_DELAY, KEPT_MS) };
    }
}

/// Gives memory that was freed back to the system now, whatever keeps it otherwise.
pub fn give_back() {
    // SAFETY: it only looks through the allocator's own books, and may be called at any time.
    unsafe { mi_collect(true) };
}
