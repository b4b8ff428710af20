"""Seedfarm's noise, written a second time from its specification (docs/DETERMINISM.md), in numpy.

Philox4x32-10 (Salmon et al. 2011) keyed by the seed; the counter is block number and draw; Box and
Muller's transform in float64, rounded to float32.
"""

import numpy as np

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)


def philox4x32_10(counter, key):
    """Ten rounds over four arrays of 32-bit words (held in uint64), with two 32-bit key words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0 = np.uint64(MULTIPLIERS[0]) * c0
        p1 = np.uint64(MULTIPLIERS[1]) * c2
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & LOW,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & LOW,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def standard_normal(seed, draw, shape):
    """Element i depends on seed, draw and i alone; elements 2b and 2b + 1 come from block b."""
    count = int(np.prod(shape))
    block = np.arange((count + 1) // 2, dtype=np.uint64)
    fill = np.full_like(block, draw)
    counter = (block & LOW, block >> np.uint64(32), fill, np.zeros_like(block))
    w = philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32))
    word = lambda low, high: ((high << np.uint64(32)) | low) >> np.uint64(11)
    u = (word(w[0], w[1]).astype(np.float64) + 1.0) / 2.0**53
    v = word(w[2], w[3]).astype(np.float64) / 2.0**53
    radius = np.sqrt(-2.0 * np.log(u))
    angle = 2.0 * np.pi * v
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return narrow(pairs.reshape(-1)[:count]).reshape(shape)


def narrow(values):
    """Rounds float64 to float32. Refuses values for which a few last bits of another library's log, sin, cos or
    exp could decide the rounding, so that the result is that of every good library."""
    values = np.asarray(values, np.float64)
    below, above = (values * (1 + step) for step in (-(2.0**-50), 2.0**-50))
    assert (below.astype(np.float32) == above.astype(np.float32)).all(), "a value lies between two of float32"
    return values.astype(np.float32)


def check():
    """The vectors published with Philox (Random123, kat_vectors)."""
    ones = [np.array([0xFFFFFFFF], dtype=np.uint64)] * 4
    zeros = [np.array([0], dtype=np.uint64)] * 4
    hexes = lambda words: [f"{int(w[0]):08x}" for w in words]
    assert hexes(philox4x32_10(zeros, (0, 0))) == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    assert hexes(philox4x32_10(ones, (0xFFFFFFFF, 0xFFFFFFFF))) == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]
