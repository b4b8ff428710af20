//! Memory for packed operands, and outputs that several threads write.

use std::cell::RefCell;
use std::marker::PhantomData;

/// A cache line, so that packed rows never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

/// Floats aligned to 64 bytes.
#[derive(Clone, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// `len` zeros, rounded up to whole lines.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self { lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)] };
        crate::prefer_large_pages(buffer.as_mut_slice());
        buffer
    }

    /// At least `len` floats of any value.
    fn grown_to(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LINE);
        if self.lines.len() < lines {
            self.lines = vec![Line([0.0; LINE]); lines];
        }
        &mut self.as_mut_slice()[..len]
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: a `Line` is 16 floats without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.lines.len() * LINE;
        // SAFETY: a `Line` is 16 floats without padding.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats)", self.lines.len() * LINE)
    }
}

thread_local! {
    static SCRATCH: RefCell<Buffer> = const { RefCell::new(Buffer { lines: Vec::new() }) };
    static OFFSETS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Lends `f` this thread's list of offsets, under the conditions of [`with_scratch`].
pub(crate) fn with_offsets<T>(f: impl FnOnce(&mut Vec<u32>) -> T) -> T {
    OFFSETS.with_borrow_mut(f)
}

/// Lends `f` this thread's scratch of `N` parts of the given lengths, 64-byte aligned where the
/// lengths before are multiples of 16. The values are whatever was left there. `f` must not hand
/// work to a thread pool: the thread could pick up another job that wants the scratch.
pub(crate) fn with_scratch<const N: usize, T>(
    lengths: [usize; N],
    f: impl FnOnce([&mut [f32]; N]) -> T,
) -> T {
    SCRATCH.with_borrow_mut(|buffer| {
        let mut rest = buffer.grown_to(lengths.iter().sum());
        f(lengths.map(|length| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(length);
            rest = others;
            part
        }))
    })
}

/// An output slice whose disjoint parts are written by several threads.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    start: *mut f32,
    len: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: writing goes through `at`, whose callers keep to disjoint parts.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Where element `index` lies. What is written from there on must stay inside the slice and
    /// apart from what other threads write.
    pub(crate) fn at(self, index: usize) -> *mut f32 {
        assert!(index < self.len, "index {index} of an output of {}", self.len);
        self.start.wrapping_add(index)
    }

    /// `len` elements from `index` on.
    ///
    /// # Safety
    /// No other thread may touch them while the slice lives.
    pub(crate) unsafe fn slice(self, index: usize, len: usize) -> &'a mut [f32] {
        assert!(
            index <= self.len && len <= self.len - index,
            "{len} from {index} of an output of {}",
            self.len
        );
        // SAFETY: within the slice that `new` was given; the caller promises that it is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.start.wrapping_add(index), len) }
    }
}
