//! Large pages for large operands.

/// Slices from this size on are worth the call.
#[cfg(target_os = "linux")]
const LEAST_BYTES: usize = 4 << 20;

/// Asks the system to back a slice with large pages, which makes both its first use and walking
/// through it faster. Call it before the first write; where the system has none, nothing happens.
pub fn prefer_large_pages(slice: &mut [f32]) {
    #[cfg(target_os = "linux")]
    if size_of_val(slice) >= LEAST_BYTES {
        let page = rustix::param::page_size();
        let start = slice.as_mut_ptr().cast::<u8>();
        let skipped = start.align_offset(page);
        let len = (size_of_val(slice) - skipped) / page * page;
        // It is a hint: where it is refused the slice works as before.
        // SAFETY: the pages lie within the slice, and the advice changes no value.
        let _ =
            unsafe { rustix::mm::madvise(start.add(skipped).cast(), len, rustix::mm::Advice::LinuxHugepage) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = slice;
}
