"""docs/DETERMINISM.md in numpy, written from the page alone; `tests/specification.rs` compares.

    pip install numpy==2.4.6
    python crates/numerics/tests/golden/specification.py > crates/numerics/tests/golden/specification.txt

Each line: an operation and the 64-bit FNV-1a hash of the bits of its results, little endian.
Inputs are `(w >> 8) / 2^21 - 4` for the first word w of Philox4x32-10 with counter [i, 0, 0, 0] and
key [salt, 0], which is exact in f32 and lies in [-4, 4).
"""

import math

import numpy as np

F, D = np.float32, np.float64


def numbers(salt, *shape):
    i = np.arange(math.prod(shape), dtype=np.uint64)
    zero, mask = np.zeros_like(i), np.uint64(0xFFFFFFFF)
    c, k = [i, zero, zero, zero], [np.uint64(salt), np.uint64(0)]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return ((c[0] >> np.uint64(8)).astype(D) / 2**21 - 4).astype(F).reshape(shape)


def fma(a, b, c):
    """a * b + c rounded once: the f64 sum is rounded to odd first, and then to f32."""
    a, b, c = np.broadcast_arrays(F(a), F(b), F(c))
    product = a.astype(D) * b.astype(D)  # exact: 48 bits
    c = c.astype(D)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = total.view(np.int64)
    inexact_even = (error != 0) & (bits & 1 == 0) & np.isfinite(total)
    away = (error > 0) == (total > 0)
    return np.where(inexact_even, bits + np.where(away, 1, -1), bits).view(D).astype(F)


def dot(start, a, b):
    """Over the last axis of a and the first of b."""
    total = start
    for i in range(a.shape[-1]):
        total = fma(a[..., i, None], b[i], total)
    return total


def fold(x, step):
    partial = [F(0)] * 32
    for i, value in enumerate(x):
        partial[i % 32] = step(partial[i % 32], value)
    half = 16
    while half:
        partial = [partial[j] + partial[j + half] for j in range(half)]
        half //= 2
    return partial[0]


def total(x):
    return fold(x, lambda p, x: F(p + x))


def squares(x, mean):
    return fold(x, lambda p, x: F(fma(F(x - mean), F(x - mean), p)))


def polynomial(x, *c):
    s = F(c[-1])
    for c in reversed(c[:-1]):
        s = fma(s, x, F(c))
    return s


def exp(x):
    x, m = F(x), F(12582912)
    x = np.where(x > F(89), F(89), x)
    x = np.where(F(-104) > x, F(-104), x)
    n = fma(x, F(1.442695), m) - m
    r = fma(n, F(-0.69335938), x)
    r = fma(n, F(0.00021219444), r)
    q = polynomial(r, 0.49999994, 0.16666521, 0.041668274, 0.008368686, 0.0013820136)
    e = F(1) + fma(r * r, q, r)
    h = fma(n, F(0.5), m) - m
    return (e * np.ldexp(F(1), h.astype(int))) * np.ldexp(F(1), (n - h).astype(int))


def sigmoid(x):
    return F(1) / (F(1) + exp(F(0) - x))


def tanh(x):
    t = np.abs(x)
    s = t * t
    p = polynomial(s, -0.3333333, 0.13333221, -0.053948186, 0.021706993, -0.008190414, 0.0021531938)
    large = F(1) - F(2) / (exp(F(2) * t) + F(1))
    return np.copysign(np.where(t > F(0.625), large, fma(s * p, t, t)), x)


def erf(x):
    t = np.abs(x)
    u = np.where(t > F(4), F(4), t)
    large = F(1) - exp(polynomial(
        u, 0.00017587461, -1.1295208, -0.6333349, -0.10829354, 0.02512824, -0.0041744444,
        0.0004351662, -2.115632e-5))
    small = polynomial(
        t * t, 0.12837917, -0.3761263, 0.11283626, -0.026855728, 0.0051923776, -0.00080491905,
        7.9929305e-5)
    return np.copysign(np.where(t > F(0.921875), large, fma(small, t, t)), x)


def quarter_wave(x, quarters):
    x = float(F(x))
    if abs(x) <= float(F(math.pi / 4)):
        quadrant, r = 0, x
    else:
        m, e = math.frexp(abs(x))
        m, e = int(m * 2**24), e - 24
        digits = TWO_OVER_PI * 2 ** (e + 126 + 40) >> (300 + 40)
        turns = m * (digits % 2**128) % 2**128
        quadrant = (turns + 2**125) >> 126
        r = float(turns - quadrant * 2**126) * (math.pi / 2 * 2.0**-126)
        if x < 0:
            quadrant, r = -quadrant, -r
    turned = (quadrant + quarters) % 4
    first = turned % 2
    sum_ = 0.0
    for i in reversed(range(7 + (turned % 2))):
        n = 2 * i + (1 if first == 0 else 0)
        sum_ = sum_ * (r * r) + (-1.0) ** i / math.factorial(n)
    size = sum_ if first else r * sum_
    return F(-size if turned >= 2 else size)


def pi_inverse_digits():
    """floor(2/pi * 2^300), by Machin's formula for pi."""
    unit = 1 << 400

    def arctan_inverse(n):
        term, total, k = unit // n, 0, 0
        while term:
            total += (-term if k % 2 else term) // (2 * k + 1)
            term //= n * n
            k += 1
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return (2 << 700) // pi


TWO_OVER_PI = pi_inverse_digits()


def linear(x, weight, bias):
    return dot(np.broadcast_to(bias, (x.shape[0], bias.shape[0])), x, weight.T)


def conv(x, weight, bias, stride, top, bottom, left, right):
    n, c, _, _ = x.shape
    o, _, kh, kw = weight.shape
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    oh, ow = (x.shape[2] - kh) // stride + 1, (x.shape[3] - kw) // stride + 1
    out = np.broadcast_to(bias[None, :, None, None], (n, o, oh, ow))
    for channel in range(c):
        for ky in range(kh):
            for kx in range(kw):
                taken = x[:, None, channel, ky:ky + oh * stride:stride, kx:kx + ow * stride:stride]
                taken = taken[:, :, :oh, :ow]
                out = fma(weight[None, :, channel, ky, kx, None, None], taken, out)
    return out


def attention(q, k, v, heads, scale, causal):
    batch, q_len, width = q.shape
    kv_len, d = k.shape[1], width // heads
    out = np.zeros_like(q)
    for b in range(batch):
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            s = F(scale) * dot(np.zeros((q_len, kv_len), F), q[b, :, part], k[b, :, part].T)
            if causal:
                s = np.where(np.arange(kv_len)[None, :] > np.arange(q_len)[:, None], F(-np.inf), s)
            e = exp(s - s.max(axis=1, keepdims=True))
            sums = np.zeros(q_len, F)
            for j in range(kv_len):
                sums = sums + e[:, j]
            out[b, :, part] = dot(np.zeros((q_len, d), F), e, v[b, :, part]) / sums[:, None]
    return out


def group_norm(x, groups, weight, bias, eps):
    n, c, spatial = x.shape
    per = c // groups
    out = np.zeros_like(x)
    for b in range(n):
        for g in range(groups):
            part = slice(g * per, (g + 1) * per)
            count = F(per * spatial)
            mean = total([total(channel) for channel in x[b, part]]) / count
            variance = total([squares(channel, mean) for channel in x[b, part]]) / count
            inverse = F(1) / np.sqrt(variance + F(eps))
            factor = weight[part] * inverse
            out[b, part] = fma(x[b, part] - mean, factor[:, None], bias[part, None])
    return out


def layer_norm(x, weight, bias, eps):
    out = np.zeros_like(x)
    for r, row in enumerate(x):
        count = F(len(row))
        mean = total(row) / count
        inverse = F(1) / np.sqrt(squares(row, mean) / count + F(eps))
        out[r] = fma(row - mean, weight * inverse, bias)
    return out


def softmax(x):
    e = exp(x - x.max(axis=1, keepdims=True))
    return e / np.array([total(row) for row in e])[:, None]


def gelu(x):
    return (F(0.5) * x) * (F(1) + erf(x * F(0.70710677)))


def places(source, target):
    """First and second index, and the weight of the second."""
    place = [max((2 * i + 1) * source - target, 0) for i in range(target)]
    first = [p // (2 * target) for p in place]
    second = [min(i + 1, source - 1) for i in first]
    return first, second, F([p % (2 * target) for p in place]) / F(2 * target)


def bilinear(x, height, width):
    y0, y1, lower = places(x.shape[1], height)
    x0, x1, right = places(x.shape[2], width)
    lower = lower[:, None]
    upper, left = F(1) - lower, F(1) - right
    rows = fma(right, x[:, :, x1], left * x[:, :, x0])
    return fma(lower, rows[:, y1], upper * rows[:, y0])


def show(name, values):
    values = np.asarray(values)
    assert values.dtype == F, values.dtype
    digest = 0xCBF29CE484222325
    for byte in values.tobytes():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    print(f"{name} {digest:016x}")


np.seterr(over="ignore", under="ignore", invalid="ignore")
show("inputs", numbers(0, 1000))
show("linear", linear(numbers(1, 5, 600), numbers(2, 40, 600), numbers(3, 40)))
show("matmul", dot(np.zeros((7, 33), F), numbers(4, 7, 300), numbers(5, 300, 33)))
show("conv3x3", conv(numbers(6, 2, 30, 6, 9), numbers(7, 13, 30, 3, 3), numbers(8, 13), 1, 1, 1, 1, 1))
show("conv_down", conv(numbers(9, 1, 5, 8, 10), numbers(10, 4, 5, 3, 3), numbers(11, 4), 2, 0, 1, 0, 1))
show("attention", attention(numbers(12, 2, 5, 16), numbers(13, 2, 300, 16), numbers(14, 2, 300, 16), 2, 0.35, False))
show("causal", attention(numbers(15, 1, 40, 16), numbers(16, 1, 40, 16), numbers(17, 1, 40, 16), 2, 0.35, True))
show("group_norm", group_norm(numbers(18, 2, 12, 50), 3, numbers(19, 12), numbers(20, 12), 1e-5))
show("layer_norm", layer_norm(numbers(21, 3, 77), numbers(22, 77), numbers(23, 77), 1e-5))
show("softmax", softmax(numbers(24, 3, 100) * F(4)))
# From a hundredth to a hundred times, for the ends of the functions.
x = np.concatenate([numbers(25, 500) * F(s) for s in (1e-38, 0.01, 0.25, 1, 4, 30)])
show("exp", exp(x))
show("sigmoid", sigmoid(x))
show("tanh", tanh(x))
show("erf", erf(x))
show("silu", x / (F(1) + exp(F(0) - x)))
show("gelu", gelu(x))
show("gelu_tanh", (F(0.5) * x) * (F(1) + tanh(F(0.7978846) * fma(F(0.044715) * (x * x), x, x))))
show("quick_gelu", x / (F(1) + exp(F(-1.702) * x)))
show("geglu", numbers(26, 90) * gelu(numbers(27, 90)))
angles = np.concatenate([numbers(28, 200) * F(s) for s in (0.01, 1, 300, 1e20, 1e37)])
show("sin", np.array([quarter_wave(a, 0) for a in angles]))
show("cos", np.array([quarter_wave(a, 1) for a in angles]))
show("bilinear", bilinear(numbers(29, 2, 5, 7), 13, 16))
show("bilinear_down", bilinear(numbers(29, 2, 5, 7), 3, 4))
