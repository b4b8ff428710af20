"""Golden values of `philox::standard_normal`, from an implementation in numpy by the paper.

    pip install numpy==2.4.6
    python crates/numerics/tests/golden/noise.py > crates/numerics/tests/golden/noise.txt

Each line: seed, draw, first element, and the bits of eight consecutive f32 values from there.
"""

import numpy as np


def philox4x32_10(counter, key):
    """Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", section 3.3."""
    c = [np.uint64(x) for x in counter]
    k = [np.uint64(x) for x in key]
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c[0]
        p1 = np.uint64(0xCD9E8D57) * c[2]
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ k[0],
            p1 & mask,
            (p0 >> np.uint64(32)) ^ c[3] ^ k[1],
            p0 & mask,
        ]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return [int(x) for x in c]


def normal(seed, draw, element):
    block = element // 2
    w = philox4x32_10(
        [block & 0xFFFFFFFF, block >> 32, draw, 0], [seed & 0xFFFFFFFF, seed >> 32]
    )
    u = np.float64(((w[1] << 32 | w[0]) >> 11) + 1) / np.float64(2**53)
    v = np.float64((w[3] << 32 | w[2]) >> 11) / np.float64(2**53)
    radius = np.sqrt(-2.0 * np.log(u))
    turn = 2.0 * np.pi * v
    return np.float32(radius * (np.cos(turn) if element % 2 == 0 else np.sin(turn)))


for seed in (0, 1, 42, 2**32, 2**63 + 12345, 2**64 - 1):
    for draw in (0, 1, 1000, 2**32 - 1):
        for first in (0, 3, 4096, 16381):
            values = [normal(seed, draw, first + i) for i in range(8)]
            bits = " ".join(f"{int(v.view(np.uint32)):08x}" for v in values)
            print(seed, draw, first, bits)
