//! A call in the making: arguments good and bad, what is wrong with them, and what must come of it.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use seedfarm_numerics::matmul::Strided;
use seedfarm_numerics::{ConvShape, NumericsError, Padding};

use crate::support::{Values, assert_same, numbers};

/// Elements of a slice, at most.
const LIMIT: u128 = 1 << 12;
/// What an output holds before the call.
const BEFORE: f32 = 1234.5;

/// What can be wrong with a call, as `NumericsError` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Length,
    Zero,
    Overflow,
    NotDivisible,
    KernelTooLarge,
    OutOfView,
    Repeated,
    CausalLengths,
}

fn named(error: &NumericsError) -> Fault {
    match error {
        NumericsError::Length { .. } => Fault::Length,
        NumericsError::ZeroDimension { .. } => Fault::Zero,
        NumericsError::Overflow { .. } => Fault::Overflow,
        NumericsError::NotDivisible { .. } => Fault::NotDivisible,
        NumericsError::KernelTooLarge { .. } => Fault::KernelTooLarge,
        NumericsError::OutOfView { .. } => Fault::OutOfView,
        NumericsError::Repeated { .. } => Fault::Repeated,
        NumericsError::CausalLengths { .. } => Fault::CausalLengths,
        other => panic!("no argument can cause this: {other}"),
    }
}

/// Small, none at all, or absurd.
pub fn dimension() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 1usize..6, 3 => 6usize..40, 1 => Just(0), 1 => absurd()]
}

/// Numbers about which sums and products overflow.
pub fn absurd() -> impl Strategy<Value = usize> {
    let addressable = isize::MAX as usize / size_of::<f32>();
    prop::sample::select(vec![
        usize::MAX,
        usize::MAX - 1,
        usize::MAX / 2 + 1,
        usize::MAX / 2,
        usize::MAX / 3,
        addressable + 1,
        addressable,
        addressable / 2,
        1 << 32,
        u32::MAX as usize,
    ])
}

/// That of a contiguous view, or another.
pub fn strides() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![4 => Just(None), 2 => Just(Some(0)), 2 => (1usize..8).prop_map(Some), 1 => absurd().prop_map(Some)]
}

/// Of what a view lies in.
pub fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..10, 0usize..200]
}

/// A side of a convolution's kernel.
pub fn kernels() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1usize..4, 1 => dimension()]
}

/// How the length of a slice differs from the product of its shape.
#[derive(Debug, Clone, Copy)]
pub enum Skew {
    None,
    Less,
    More,
    Empty,
}

impl Skew {
    /// A length that ought to be `right`.
    pub fn of(self, right: usize) -> usize {
        match self {
            Self::None => right,
            Self::Less => right.saturating_sub(1),
            Self::More => right + 1,
            Self::Empty => 0,
        }
    }
}

pub fn skews<const N: usize>() -> impl Strategy<Value = Vec<Skew>> {
    let skew = prop_oneof![20 => Just(Skew::None), 1 => Just(Skew::Less), 1 => Just(Skew::More), 1 => Just(Skew::Empty)];
    vec(skew, N)
}

pub fn product(shape: &[usize]) -> u128 {
    shape.iter().fold(1u128, |n, &d| n.saturating_mul(d as u128))
}

/// A call in the making: hands out slices and notes what is wrong with them.
#[derive(Default)]
pub struct Call {
    pub faults: BTreeSet<Fault>,
    seed: u64,
}

impl Call {
    /// The length of a slice of `shape`, skewed; never a large one.
    pub fn length(&mut self, shape: &[usize], skew: Skew) -> usize {
        let right = product(shape);
        if right == 0 {
            self.faults.insert(Fault::Zero);
        } else if right > isize::MAX as u128 / 4 {
            self.faults.insert(Fault::Overflow);
        }
        let near = right.min(LIMIT) as usize;
        let length = skew.of(near);
        self.fault(length as u128 != right, Fault::Length);
        length
    }

    pub fn slice(&mut self, shape: &[usize], skew: Skew) -> Vec<f32> {
        self.seed += 1;
        numbers(self.seed, self.length(shape, skew), Values::Normal)
    }

    pub fn fault(&mut self, there: bool, fault: Fault) {
        if there {
            self.faults.insert(fault);
        }
    }

    /// Whether a result is right: refused if and only if there are faults, and by one of them.
    #[track_caller]
    pub fn judge<T>(&self, result: Result<T, NumericsError>) -> Option<T> {
        match result {
            Ok(value) => {
                assert!(self.faults.is_empty(), "accepted with {:?}", self.faults);
                Some(value)
            }
            Err(error) => {
                assert!(self.faults.contains(&named(&error)), "{error}, and not {:?}", self.faults);
                None
            }
        }
    }

    /// Calls a kernel with an output of `len` places.
    #[track_caller]
    pub fn check(
        &self,
        len: usize,
        call: impl FnOnce(&mut [f32]) -> Result<(), NumericsError>,
        define: impl FnOnce(&mut [f32]),
    ) {
        let mut out = vec![BEFORE; len];
        let mut expected = vec![BEFORE; len];
        if self.judge(call(&mut out)).is_some() {
            define(&mut expected);
        }
        assert_same(&out, &expected, "the output");
    }

    /// As [`Call::check`], for a function that changes `x`.
    #[track_caller]
    pub fn check_in_place(
        &self,
        x: &[f32],
        run: impl Fn(&mut [f32]) -> Result<(), NumericsError>,
        define: impl FnOnce(&mut [f32]),
    ) {
        let (mut ours, mut expected) = (x.to_vec(), x.to_vec());
        if self.judge(run(&mut ours)).is_some() {
            define(&mut expected);
        }
        assert_same(&ours, &expected, "in place");
    }
}

/// The size of a convolution's output, or 1 where it has none.
pub fn note_size(
    call: &mut Call,
    shape: &ConvShape,
    stride: usize,
    padding: &Padding,
    (h, w): (usize, usize),
) -> (usize, usize) {
    let mut side = |n: usize, before: usize, after: usize, kernel: usize| {
        let padded = n as u128 + before as u128 + after as u128;
        call.fault(padded > usize::MAX as u128, Fault::Overflow);
        call.fault(padded < kernel as u128, Fault::KernelTooLarge);
        (padded.saturating_sub(kernel as u128) / stride as u128 + 1).min(usize::MAX as u128) as usize
    };
    let height = side(h, padding.top, padding.bottom, shape.kernel_h);
    (height, side(w, padding.left, padding.right, shape.kernel_w))
}

/// Notes what is wrong with a view.
pub fn note_view(call: &mut Call, view: &Strided<'_>, shape: [usize; 3]) {
    let elements = product(&shape);
    call.fault(elements == 0, Fault::Zero);
    call.fault(elements > isize::MAX as u128 / 4, Fault::Overflow);
    let strides = [view.batch_stride, view.row_stride, view.column_stride];
    let last = shape.iter().zip(strides).fold(0u128, |last, (&n, stride)| {
        last.saturating_add((n as u128).saturating_sub(1).saturating_mul(stride as u128))
    });
    call.fault(last > usize::MAX as u128, Fault::Overflow);
    call.fault(last >= view.data.len() as u128, Fault::OutOfView);
    call.fault(product(&shape[1..]) > view.data.len() as u128, Fault::Repeated);
}
