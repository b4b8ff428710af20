"""Golden results of PyTorch for small operations, compared within 1e-5 (bilinear: 1e-6) by
`tests/torch.rs`.

    pip install torch==2.15.0 numpy==2.4.6
    python crates/numerics/tests/golden/torch_ops.py crates/numerics/tests/golden/torch_ops.txt

Each line: a name, the shapes and options as integers up to `:`, then the numbers. Inputs are drawn
by numpy's PCG64 with seed 2026 and rounded to 1/1024, so that a few digits carry them exactly;
results are computed in f64 and printed with nine digits.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F

generator = np.random.Generator(np.random.PCG64(2026))
lines = []


def draw(*shape):
    values = np.round(generator.standard_normal(shape) * 1024) / 1024
    return torch.from_numpy(values)


def emit(name, integers, *tensors):
    numbers = []
    for tensor in tensors:
        numbers.append(" ".join(f"{x:.9g}" for x in tensor.flatten().tolist()))
    lines.append(f"{name} {' '.join(map(str, integers))} : {' ; '.join(numbers)}")


# out, in, kernel, stride, left, right, top, bottom, n, h, w: x, weight, bias, result
for o, i, k, stride, (left, right, top, bottom), n, h, w in [
    (5, 7, 3, 1, (1, 1, 1, 1), 2, 6, 9),
    (4, 3, 3, 2, (0, 1, 0, 1), 1, 8, 8),
    (6, 5, 1, 1, (0, 0, 0, 0), 1, 4, 5),
    (3, 4, 3, 2, (1, 1, 1, 1), 1, 7, 10),
]:
    x, weight, bias = draw(n, i, h, w), draw(o, i, k, k), draw(o)
    result = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride)
    emit("conv", [o, i, k, stride, left, right, top, bottom, n, h, w], x, weight, bias, result)

# batch, channels, spatial, groups: x, weight, bias, result, result after silu
for n, c, s, groups in [(2, 8, 15, 4), (1, 6, 64, 2)]:
    x, weight, bias = draw(n, c, s) * 3 + 1, draw(c), draw(c)
    result = F.group_norm(x, groups, weight, bias, 1e-5)
    emit("group_norm", [n, c, s, groups], x, weight, bias, result, F.silu(result))

# rows, width: x, weight, bias, result
x, weight, bias = draw(3, 40) * 2 - 1, draw(40), draw(40)
emit("layer_norm", [3, 40], x, weight, bias, F.layer_norm(x, (40,), weight, bias, 1e-5))

# batch, heads, q_len, kv_len, head_dim, causal: q, k, v, result
for batch, heads, q_len, kv_len, d, causal in [(2, 2, 5, 9, 8, 0), (1, 3, 7, 7, 4, 1)]:
    q, k, v = draw(batch, q_len, heads * d), draw(batch, kv_len, heads * d), draw(batch, kv_len, heads * d)
    split = lambda t: t.view(batch, -1, heads, d).transpose(1, 2)
    result = F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=bool(causal))
    result = result.transpose(1, 2).reshape(batch, q_len, heads * d)
    emit("attention", [batch, heads, q_len, kv_len, d, causal], q, k, v, result)

# rows, in, out: x, weight, bias, result
x, weight, bias = draw(4, 19), draw(6, 19), draw(6)
emit("linear", [4, 19, 6], x, weight, bias, F.linear(x, weight, bias))

# rows, width: x, result
x = draw(4, 21) * 4
emit("softmax", [4, 21], x, F.softmax(x, -1))

# length: x, result
x = draw(120) * 4
emit("silu", [120], x, F.silu(x))
emit("gelu", [120], x, F.gelu(x))
emit("gelu_tanh", [120], x, F.gelu(x, approximate="tanh"))
emit("quick_gelu", [120], x, x * torch.sigmoid(1.702 * x))

emit("relu", [120], x, F.relu(x))
emit("tanh_clamp", [120], x, torch.tanh(x / 3) * 3)

# rows, width: x, result
x = draw(5, 24) * 2
value, gate = x.chunk(2, dim=-1)
emit("geglu", [5, 12], x, value * F.gelu(gate))

# planes, h, w: x, result
x = draw(2, 3, 4)
emit("upsample", [2, 3, 4], x, F.interpolate(x[None], scale_factor=2.0, mode="nearest"))

# planes, h, w, result's h, result's w: x, result
for planes, h, w, out_h, out_w in [(2, 3, 4, 6, 8), (1, 5, 7, 13, 16), (1, 9, 8, 4, 3)]:
    x = draw(planes, h, w)
    result = F.interpolate(x[None], size=(out_h, out_w), mode="bilinear", align_corners=False)
    emit("bilinear", [planes, h, w, out_h, out_w], x, result)

with open(sys.argv[1], "w", encoding="ascii") as file:
    file.write("\n".join(lines) + "\n")
