"""The operations of docs/DETERMINISM.md in numpy, written from the page alone.

`specification.py` beside this file holds the kernels against them, one by one, and
`tests/parity/strict_twin.py` whole images.
"""

import math

import numpy as np

F, D = np.float32, np.float64


def fma(a, b, c):
    """a * b + c rounded once: the f64 sum is rounded to odd first, and then to f32."""
    product = np.multiply(a, b, dtype=D)  # exact: 48 bits
    c = np.asarray(c, D)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = total.view(np.int64)
    inexact_even = (error != 0) & (bits & 1 == 0) & np.isfinite(total)
    away = (error > 0) == (total > 0)
    return np.where(inexact_even, bits + np.where(away, 1, -1), bits).view(D).astype(F)


def dot(start, a, b):
    """Over the last axis of a and the last but one of b, the axes before them side by side."""
    total = start
    for i in range(a.shape[-1]):
        total = fma(a[..., i, None], b[..., i, None, :], total)
    return total


def fold(x, step):
    """The 32 partial sums over the last axis, and the tree over them."""
    partial = np.zeros((*x.shape[:-1], 32), F)
    for i in range(0, x.shape[-1], 32):
        part = x[..., i:i + 32]
        width = part.shape[-1]
        partial[..., :width] = step(partial[..., :width], part)
    half = 16
    while half:
        partial = partial[..., :half] + partial[..., half:]
        half //= 2
    return partial[..., 0]


def total(x):
    return fold(x, lambda p, x: p + x)


def squares(x, mean):
    mean = mean[..., None]
    return fold(x, lambda p, x: fma(x - mean, x - mean, p))


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


def silu(x):
    return x / (F(1) + exp(F(0) - x))


def gelu(x):
    return (F(0.5) * x) * (F(1) + erf(x * F(0.70710677)))


def gelu_tanh(x):
    return (F(0.5) * x) * (F(1) + tanh(F(0.7978846) * fma(F(0.044715) * (x * x), x, x)))


def quick_gelu(x):
    return x / (F(1) + exp(F(-1.702) * x))


def relu(x):
    return np.where(F(0) > x, F(0), x)


def tanh_clamp(x, limit):
    return tanh(x / F(limit)) * F(limit)


def geglu(x):
    a, b = np.split(x, 2, axis=-1)
    return a * gelu(b)


def quarter_wave(x, quarters):
    """The sine of one number, moved on by some quarters of a turn."""
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


def linear(x, weight, bias=None):
    start = np.zeros(weight.shape[0], F) if bias is None else bias
    return dot(np.broadcast_to(start, (*x.shape[:-1], weight.shape[0])), x, weight.T)


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


def upsample(x):
    """Nearest, by 2."""
    return x.repeat(2, axis=2).repeat(2, axis=3)


def attention(q, k, v, heads, scale, causal):
    """Of q [batch, queries, width] over k and v [batch, keys, width]."""
    split = lambda x: x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)
    queries, keys, values = split(q), split(k), split(v)
    q_len, kv_len = q.shape[1], k.shape[1]
    s = F(scale) * dot(np.zeros((*queries.shape[:3], kv_len), F), queries, keys.swapaxes(2, 3))
    if causal:
        s = np.where(np.arange(kv_len)[None, :] > np.arange(q_len)[:, None], F(-np.inf), s)
    e = exp(s - s.max(axis=-1, keepdims=True))
    sums = np.zeros(e.shape[:3], F)
    for j in range(kv_len):
        sums = sums + e[..., j]
    out = dot(np.zeros(queries.shape, F), e, values) / sums[..., None]
    return out.swapaxes(1, 2).reshape(q.shape)


def group_norm(x, groups, weight, bias, eps):
    """Over x [batch, channels, pixels]."""
    n, c, spatial = x.shape
    x = x.reshape(n, groups, c // groups, spatial)
    count = F(c // groups * spatial)
    mean = total(total(x)) / count
    each = np.broadcast_to(mean[..., None], x.shape[:3])
    variance = total(squares(x, each)) / count
    inverse = F(1) / np.sqrt(variance + F(eps))
    factor = weight.reshape(groups, -1) * inverse[..., None]
    out = fma(x - each[..., None], factor[..., None], bias.reshape(groups, -1, 1))
    return out.reshape(n, c, spatial)


def layer_norm(x, weight, bias, eps):
    count = F(x.shape[-1])
    mean = total(x) / count
    inverse = F(1) / np.sqrt(squares(x, mean) / count + F(eps))
    return fma(x - mean[..., None], weight * inverse[..., None], bias)


def softmax(x):
    e = exp(x - x.max(axis=-1, keepdims=True))
    return e / total(e)[..., None]


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


# Overflow and NaN are results like others.
np.seterr(over="ignore", under="ignore", invalid="ignore")
