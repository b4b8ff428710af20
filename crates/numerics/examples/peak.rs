//! Measures the machine's peak of fused multiply-adds and what the kernels reach of it at the
//! shapes of Stable Diffusion 1.5.
//!
//! `cargo run --release -p seedfarm-numerics --example peak [-- THREADS [ISA]]`, with ISA one of
//! `portable`, `neon`, `avx2` and `avx512`. Prints GFLOP/s and the share of the peak, which is one
//! thread's times THREADS, and says `below` where a matrix product or a 3x3 convolution stays under
//! 70 %. Times are by the clock on the wall: on a machine that does other work too they say little.

use std::hint::black_box;
use std::time::Instant;

use seedfarm_numerics::{
    AttentionShape, ConvShape, Isa, Mask, PackedConv2d, PackedLinear, Padding, attention, norm, philox,
    pointwise,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The share of the peak that products are to reach.
const GOAL: f64 = 0.7;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let name = arguments.next();
    let isa = match &name {
        None => Isa::best(),
        Some(name) => Isa::ALL
            .into_iter()
            .find(|isa| isa.to_string() == *name)
            .ok_or_else(|| format!("no instruction set {name}; try portable, neon, avx2 or avx512"))?,
    };
    Isa::force(Some(isa))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let peak = pool.install(|| Isa::measure_peak(0.3)) * threads as f64 / 1e9;
    println!("{isa}, {threads} thread(s): {peak:.1} GFLOP/s at most");
    pool.install(|| Bench { peak }.run())
}

/// Prints one line for each kernel.
struct Bench {
    peak: f64,
}

impl Bench {
    fn run(&self) -> Result<(), Failure> {
        for (rows, k, n) in [
            (8192, 320, 320),
            (8192, 320, 2560),
            (8192, 1280, 320),
            (2048, 640, 640),
            (512, 1280, 1280),
            (512, 1280, 10240),
            (154, 768, 1280),
            (2, 1280, 1280),
        ] {
            self.linear(rows, k, n)?;
        }
        for (n, side, channels, out) in [
            (2, 64, 320, 320),
            (2, 64, 960, 320),
            (2, 32, 640, 640),
            (2, 16, 1280, 1280),
            (2, 8, 2560, 1280),
            (1, 256, 256, 256),
            (1, 512, 128, 128),
            (1, 512, 128, 3),
        ] {
            self.conv(n, side, channels, out, 3, 1)?;
        }
        self.conv(2, 64, 320, 320, 1, 1)?;
        self.conv(2, 64, 320, 320, 3, 2)?;
        for (q_len, kv_len, heads, head_dim) in
            [(4096, 4096, 8, 40), (1024, 1024, 8, 80), (4096, 77, 8, 40), (4096, 4096, 1, 512)]
        {
            self.attention(AttentionShape { batch: 1, heads, q_len, kv_len, head_dim })?;
        }
        self.passes()
    }

    fn linear(&self, rows: usize, k: usize, n: usize) -> Result<(), Failure> {
        let layer = PackedLinear::new(&noise(n * k), n, k, Some(&noise(n)))?;
        let (x, mut out) = (noise(rows * k), vec![0.0; rows * n]);
        let seconds = best_of(|| layer.forward(&x, rows, &mut out));
        let work = 2.0 * (rows * k * n) as f64;
        self.print(&format!("linear {rows}x{k} to {n}"), work, seconds, rows > 96);
        Ok(())
    }

    fn conv(
        &self,
        n: usize,
        side: usize,
        channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<(), Failure> {
        let shape = ConvShape { out_channels, in_channels: channels, kernel_h: kernel, kernel_w: kernel };
        let taps = channels * kernel * kernel;
        let weight = noise(out_channels * taps);
        let bias = noise(out_channels);
        let conv = PackedConv2d::new(&weight, shape, Some(&bias), stride, Padding::all(kernel / 2))?;
        let (h, w) = conv.out_size(side, side)?;
        let x = noise(n * channels * side * side);
        let mut out = vec![0.0; n * out_channels * h * w];
        let seconds = best_of(|| conv.forward(&x, n, side, side, &mut out));
        let work = 2.0 * (taps * out.len()) as f64;
        let name = format!("conv {kernel}x{kernel}/{stride} {n}x{channels}x{side}x{side} to {out_channels}");
        self.print(&name, work, seconds, kernel == 3 && out_channels >= 64);
        Ok(())
    }

    fn attention(&self, shape: AttentionShape) -> Result<(), Failure> {
        let width = shape.heads * shape.head_dim;
        let q = noise(shape.q_len * width);
        let (k, v) = (noise(shape.kv_len * width), noise(shape.kv_len * width));
        let mut out = vec![0.0; q.len()];
        let scale = 1.0 / (shape.head_dim as f32).sqrt();
        let seconds = best_of(|| attention(&q, &k, &v, &shape, scale, Mask::None, &mut out));
        let AttentionShape { heads, q_len, kv_len, head_dim, .. } = shape;
        let name = format!("attention {heads} heads {q_len}x{kv_len}x{head_dim}");
        self.print(&name, 4.0 * (q_len * kv_len * width) as f64, seconds, false);
        Ok(())
    }

    fn passes(&self) -> Result<(), Failure> {
        let shape = norm::GroupNormShape { batch: 2, channels: 320, spatial: 4096, groups: 32 };
        let x = noise(2 * 320 * 4096);
        let (weight, bias) = (noise(320), noise(320));
        let mut out = vec![0.0; x.len()];
        let each = |name: &str, seconds: f64| {
            println!("{name:44} {:8.2} Gelements/s", x.len() as f64 / seconds / 1e9);
        };
        let seconds = best_of(|| norm::group_norm_silu(&x, &shape, &weight, &bias, 1e-5, &mut out));
        each("group norm and silu", seconds);
        let seconds = best_of(|| norm::layer_norm(&x, 8192, 320, &weight, &bias, 1e-5, &mut out));
        each("layer norm of 320", seconds);
        each("softmax of 4096", best_of(|| norm::softmax(&x, 640, 4096, &mut out)));
        each("gelu", best_of(|| pointwise::gelu(&x, &mut out)));
        each("add", best_of(|| pointwise::add(&x, &x, &mut out)));
        Ok(())
    }

    fn print(&self, name: &str, work: f64, seconds: f64, judged: bool) {
        let speed = work / seconds / 1e9;
        let share = speed / self.peak;
        let verdict = match (judged, share >= GOAL) {
            (false, _) => "",
            (true, true) => "ok",
            (true, false) => "below",
        };
        println!("{name:44} {speed:8.1} GFLOP/s {:5.1} % {verdict}", 100.0 * share);
    }
}

/// The shortest of some calls in seconds, for at least 0.2 s.
fn best_of<E: std::fmt::Debug>(mut call: impl FnMut() -> Result<(), E>) -> f64 {
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    let mut calls = 0;
    while calls < 2 || begun.elapsed().as_secs_f64() < 0.2 {
        let start = Instant::now();
        black_box(call()).expect("the shapes match");
        best = best.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}

fn noise(len: usize) -> Vec<f32> {
    let mut noise = vec![0.0; len];
    philox::standard_normal(1, 0, &mut noise);
    noise
}
