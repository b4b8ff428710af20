//! Work over the current threads, where there is enough of it.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

/// Less work than this, in floating-point operations, is done by the calling thread: waking others takes
/// longer.
const LEAST_WORK: usize = 1 << 23;
/// What is worth splitting is split into jobs of about this much work, between one and
/// [`JOBS_PER_THREAD`] for each thread.
const JOB_WORK: usize = 1 << 24;
/// Jobs wanted for each thread, so that the last ones to finish wait little.
const JOBS_PER_THREAD: usize = 4;
/// Operations that an element of a pass over memory counts for.
pub(crate) const PASS: usize = 32;

/// Whether any work is worth waking others for.
static ALWAYS: AtomicBool = AtomicBool::new(false);

/// Makes the whole process split even the smallest work over the threads, as tests of small shapes want it,
/// or no longer. It changes speed, never bits.
pub fn always_split(yes: bool) {
    ALWAYS.store(yes, Ordering::Relaxed);
}

/// Whether work of so many operations stays with the calling thread.
fn stays(work: usize) -> bool {
    rayon::current_num_threads() == 1 || (work < LEAST_WORK && !ALWAYS.load(Ordering::Relaxed))
}

/// Jobs into which so much work is best split.
pub(crate) fn jobs_for(work: usize) -> usize {
    let threads = rayon::current_num_threads();
    if stays(work) { 1 } else { (work / JOB_WORK).clamp(threads, JOBS_PER_THREAD * threads) }
}

/// Runs jobs `0..jobs`, which together take about `work` floating-point operations.
pub(crate) fn for_each(jobs: usize, work: usize, job: impl Fn(usize) + Sync + Send) {
    if jobs == 1 || stays(work) {
        (0..jobs).for_each(job);
    } else {
        (0..jobs).into_par_iter().for_each(job);
    }
}

/// Runs jobs over chunks of two slices: `out` in chunks of `size`, `x` in as many of `x_size`. The last
/// ones may be shorter.
pub(crate) fn for_each_chunk(
    (out, size): (&mut [f32], usize),
    (x, x_size): (&[f32], usize),
    job: impl Fn(usize, &mut [f32], &[f32]) + Sync + Send,
) {
    if stays(out.len() * PASS) {
        let chunks = out.chunks_mut(size).zip(x.chunks(x_size)).enumerate();
        chunks.for_each(|(i, (out, x))| job(i, out, x));
    } else {
        let chunks = out.par_chunks_mut(size).zip(x.par_chunks(x_size)).enumerate();
        chunks.for_each(|(i, (out, x))| job(i, out, x));
    }
}
