"""docs/DETERMINISM.md in numpy, written from the page alone; `tests/specification.rs` compares.

    pip install numpy==2.4.6
    python crates/numerics/tests/golden/specification.py > crates/numerics/tests/golden/specification.txt

Each line: an operation and the 64-bit FNV-1a hash of the bits of its results, little endian.
Inputs are `(w >> 8) / 2^21 - 4` for the first word w of Philox4x32-10 with counter [i, 0, 0, 0] and
key [salt, 0], which is exact in f32 and lies in [-4, 4).
"""

import math

import numpy as np

from strict import (
    D, F, attention, bilinear, conv, dot, erf, exp, geglu, gelu, gelu_tanh, group_norm, layer_norm, linear,
    quarter_wave, quick_gelu, relu, sigmoid, silu, softmax, tanh, tanh_clamp,
)


def numbers(salt, *shape):
    i = np.arange(math.prod(shape), dtype=np.uint64)
    zero, mask = np.zeros_like(i), np.uint64(0xFFFFFFFF)
    c, k = [i, zero, zero, zero], [np.uint64(salt), np.uint64(0)]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return ((c[0] >> np.uint64(8)).astype(D) / 2**21 - 4).astype(F).reshape(shape)


def show(name, values):
    values = np.asarray(values)
    assert values.dtype == F, values.dtype
    digest = 0xCBF29CE484222325
    for byte in values.tobytes():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    print(f"{name} {digest:016x}")


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
show("silu", silu(x))
show("gelu", gelu(x))
show("gelu_tanh", gelu_tanh(x))
show("quick_gelu", quick_gelu(x))
show("relu", relu(x))
show("tanh_clamp", tanh_clamp(x, 3))
show("geglu", geglu(np.concatenate([numbers(26, 90), numbers(27, 90)])))
angles = np.concatenate([numbers(28, 200) * F(s) for s in (0.01, 1, 300, 1e20, 1e37)])
show("sin", np.array([quarter_wave(a, 0) for a in angles]))
show("cos", np.array([quarter_wave(a, 1) for a in angles]))
show("bilinear", bilinear(numbers(29, 2, 5, 7), 13, 16))
show("bilinear_down", bilinear(numbers(29, 2, 5, 7), 3, 4))
