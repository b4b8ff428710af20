//! The kernels at the shapes of Stable Diffusion 1.5, beside the machine's peak of fused multiply-adds.
//!
//! `cargo bench -p seedfarm-numerics [-- FILTER]`. `KERNEL_THREADS` is the number of threads, 1 without it;
//! `KERNEL_ISA` one of `portable`, `neon`, `avx2` and `avx512`, the best without it. Criterion prints FLOP as
//! elements; the line below it says GFLOP/s, the share of the peak (one thread's times the threads) and `below`
//! where a matrix product or a 3x3 convolution stays under 70 %. Times are by the clock on the wall: on a
//! machine that does other work too they say little.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use seedfarm_numerics::norm::GroupNormShape;
use seedfarm_numerics::{
    AttentionShape, ConvShape, Isa, Mask, NumericsError, PackedConv2d, PackedLinear, Padding, attention,
    matmul, norm, philox, pointwise,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Done = Result<(), NumericsError>;

/// The share of the peak that products are to reach.
const GOAL: f64 = 0.7;

fn main() -> Result<(), Failure> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let threads: usize = variable("KERNEL_THREADS").map_or(Ok(1), |text| text.parse())?;
    let isa = match variable("KERNEL_ISA") {
        None => Isa::best(),
        Some(name) => Isa::ALL
            .into_iter()
            .find(|isa| isa.to_string() == name)
            .ok_or_else(|| format!("KERNEL_ISA={name}: try portable, neon, avx2 or avx512"))?,
    };
    Isa::force(Some(isa))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let peak = pool.install(|| Isa::measure_peak(0.5)) * threads as f64 / 1e9;
    println!("{isa}, {threads} thread(s): {peak:.1} GFLOP/s at most");
    let criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut bench = Bench { peak, pool, criterion };
    bench.run()?;
    bench.criterion.final_summary();
    Ok(())
}

/// What a benchmark counts.
#[derive(Clone, Copy)]
enum Work {
    /// Floating-point operations, held to the goal or not.
    Operations { count: usize, judged: bool },
    /// Elements of a pass over memory.
    Elements(usize),
}

/// Prints one line for each kernel.
struct Bench {
    peak: f64,
    pool: rayon::ThreadPool,
    criterion: Criterion,
}

impl Bench {
    fn run(&mut self) -> Result<(), Failure> {
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
        self.matmul(16, 1024, 80, 1024)?;
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
            self.attention(AttentionShape { batch: 1, heads, q_len, kv_len, head_dim });
        }
        self.norms();
        self.functions();
        Ok(())
    }

    fn linear(&mut self, rows: usize, k: usize, n: usize) -> Result<(), Failure> {
        let layer = PackedLinear::new(&noise(n * k), n, k, Some(&noise(n)))?;
        let (x, mut out) = (noise(rows * k), vec![0.0; rows * n]);
        // Two rows stand for a step's embedding: they are bound by reading the weight.
        let work = Work::Operations { count: 2 * rows * k * n, judged: rows > 96 };
        self.time(&format!("linear {rows}x{k} to {n}"), work, || layer.forward(&x, rows, &mut out));
        Ok(())
    }

    fn matmul(&mut self, batch: usize, m: usize, k: usize, n: usize) -> Result<(), Failure> {
        let (a, b) = (noise(batch * m * k), noise(batch * k * n));
        let mut out = vec![0.0; batch * m * n];
        let work = Work::Operations { count: 2 * batch * m * k * n, judged: false };
        let name = format!("matmul {batch}x{m}x{k}x{n}");
        self.time(&name, work, || matmul::batched_matmul(&a, &b, &mut out, batch, m, k, n));
        Ok(())
    }

    fn conv(
        &mut self,
        n: usize,
        side: usize,
        channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<(), Failure> {
        let shape = ConvShape { out_channels, in_channels: channels, kernel_h: kernel, kernel_w: kernel };
        let taps = channels * kernel * kernel;
        let (weight, bias) = (noise(out_channels * taps), noise(out_channels));
        let conv = PackedConv2d::new(&weight, shape, Some(&bias), stride, Padding::all(kernel / 2))?;
        let (h, w) = conv.out_size(side, side)?;
        let x = noise(n * channels * side * side);
        let mut out = vec![0.0; n * out_channels * h * w];
        // Three channels fill a quarter of the kernels' rows; the layer is a thousandth of a decoder.
        let judged = kernel == 3 && out_channels >= 64;
        let work = Work::Operations { count: 2 * taps * out.len(), judged };
        let name = format!(
            "conv {kernel}x{kernel}, stride {stride}, {n}x{channels}x{side}x{side} to {out_channels}"
        );
        self.time(&name, work, || conv.forward(&x, n, side, side, &mut out));
        Ok(())
    }

    fn attention(&mut self, shape: AttentionShape) {
        let AttentionShape { heads, q_len, kv_len, head_dim, .. } = shape;
        let width = heads * head_dim;
        let q = noise(q_len * width);
        let (k, v) = (noise(kv_len * width), noise(kv_len * width));
        let mut out = vec![0.0; q.len()];
        let scale = 1.0 / (head_dim as f32).sqrt();
        let work = Work::Operations { count: 4 * q_len * kv_len * width, judged: false };
        let name = format!("attention, {heads} heads, {q_len}x{kv_len}x{head_dim}");
        self.time(&name, work, || attention(&q, &k, &v, &shape, scale, Mask::None, &mut out));
    }

    fn norms(&mut self) {
        let shape = GroupNormShape { batch: 2, channels: 320, spatial: 4096, groups: 32 };
        let x = noise(2 * 320 * 4096);
        let (weight, bias) = (noise(320), noise(320));
        let mut out = vec![0.0; x.len()];
        let work = Work::Elements(x.len());
        self.time("group norm", work, || norm::group_norm(&x, &shape, &weight, &bias, 1e-5, &mut out));
        self.time("group norm and silu", work, || {
            norm::group_norm_silu(&x, &shape, &weight, &bias, 1e-5, &mut out)
        });
        self.time("layer norm of 320", work, || {
            norm::layer_norm(&x, 8192, 320, &weight, &bias, 1e-5, &mut out)
        });
        self.time("softmax of 4096", work, || norm::softmax(&x, 640, 4096, &mut out));
    }

    fn functions(&mut self) {
        let x = noise(2 * 320 * 4096);
        let mut out = vec![0.0; x.len()];
        let work = Work::Elements(x.len());
        self.time("silu", work, || pointwise::silu(&x, &mut out));
        self.time("sigmoid", work, || pointwise::sigmoid(&x, &mut out));
        self.time("gelu", work, || pointwise::gelu(&x, &mut out));
        self.time("gelu_tanh", work, || pointwise::gelu_tanh(&x, &mut out));
        self.time("quick_gelu", work, || pointwise::quick_gelu(&x, &mut out));
        self.time("add", work, || pointwise::add(&x, &x, &mut out));
        self.time("mul", work, || pointwise::mul(&x, &x, &mut out));
        self.time("scale", work, || pointwise::scale(&x, 0.5, &mut out));
        self.time("transpose", work, || pointwise::transpose(&x, 2, 320, 4096, &mut out));
        let half = Work::Elements(x.len() / 2);
        self.time("geglu", half, || pointwise::geglu(&x, 1024, 1280, &mut out[..1024 * 1280]));
        let mut large = vec![0.0; 4 * x.len()];
        let work = Work::Elements(large.len());
        self.time("nearest upsampling", work, || pointwise::upsample_nearest_2x(&x, 640, 64, 64, &mut large));
        self.time("bilinear upsampling", work, || {
            pointwise::upsample_bilinear(&x, 640, (64, 64), (128, 128), &mut large)
        });
    }

    /// Lets criterion time a kernel, and prints what its fastest call reached.
    fn time(&mut self, name: &str, work: Work, mut call: impl FnMut() -> Done + Send) {
        let (best, pool) = (Cell::new(f64::INFINITY), &self.pool);
        let mut group = self.criterion.benchmark_group("kernels");
        let (Work::Operations { count, .. } | Work::Elements(count)) = work;
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|calls| {
                let mut total = Duration::ZERO;
                for _ in 0..calls {
                    let start = Instant::now();
                    black_box(pool.install(&mut call)).expect("the shapes match");
                    let taken = start.elapsed();
                    best.set(best.get().min(taken.as_secs_f64()));
                    total += taken;
                }
                total
            });
        });
        group.finish();
        if best.get().is_finite() {
            self.print(name, work, best.get());
        }
    }

    fn print(&self, name: &str, work: Work, seconds: f64) {
        match work {
            Work::Elements(count) => {
                println!("  = {name:48} {:8.2} Gelements/s", count as f64 / seconds / 1e9);
            }
            Work::Operations { count, judged } => {
                let speed = count as f64 / seconds / 1e9;
                let share = speed / self.peak;
                let verdict = match (judged, share >= GOAL) {
                    (false, _) => "",
                    (true, true) => "ok",
                    (true, false) => "below",
                };
                println!("  = {name:48} {speed:8.1} GFLOP/s {:5.1} % {verdict}", 100.0 * share);
            }
        }
    }
}

fn noise(len: usize) -> Vec<f32> {
    let mut noise = vec![0.0; len];
    philox::standard_normal(1, 0, &mut noise);
    noise
}
