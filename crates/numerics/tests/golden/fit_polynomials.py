"""Fits the polynomials of `math.rs`.

    pip install numpy==2.4.6 mpmath==1.3.0
    python crates/numerics/tests/golden/fit_polynomials.py

Prints each coefficient as the shortest decimal that reads back as the same f32.
The fit is Lawson's iteration (weighted least squares that tends to the minimax
polynomial); coefficients are rounded to f32 from the lowest order up, and the
remaining ones fitted again after each rounding.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def lawson(target, weight, powers, points, rounds=60):
    """Coefficients that make the largest |weight * (sum c_i x^p_i - target)| least."""
    basis = np.stack([points**p for p in powers], axis=1)
    w = np.ones(len(points))
    best, best_error = None, np.inf
    for _ in range(rounds):
        s = np.sqrt(w) * weight
        c, *_ = np.linalg.lstsq(basis * s[:, None], target * s, rcond=None)
        error = np.abs((basis @ c - target) * weight)
        if error.max() < best_error:
            best, best_error = c, error.max()
        w = w * np.maximum(error, error.max() * 1e-3)
        w /= w.sum()
    return best, best_error


def fit(name, target, weight, powers, low, high, count=3000):
    theta = (np.arange(count) + 0.5) * np.pi / count
    points = (low + high) / 2 + (high - low) / 2 * np.cos(theta)
    wanted = np.array([float(target(mp.mpf(float(x)))) for x in points])
    weights = np.array([float(weight(mp.mpf(float(x)))) for x in points])
    fixed = {}
    left = wanted.copy()
    open_powers = list(powers)
    while open_powers:
        c, error = lawson(left, weights, open_powers, points)
        if not fixed:
            print(f"{name}: unrounded error {error:.3e}")
        value = float(np.float32(c[0]))
        fixed[open_powers[0]] = value
        left = left - value * points ** open_powers[0]
        open_powers.pop(0)
    worst = np.abs(left * weights).max()
    for p in powers:
        print(f"  x^{p}: {np.float32(fixed[p])!r}  {np.float32(fixed[p]).view(np.uint32):#010x}")
    print(f"  rounded error {worst:.3e}")


half_ln2 = float(mp.log(2) / 2) * 1.001
# exp(r) = 1 + r + r^2 q(r)
fit("exp", lambda r: (mp.exp(r) - 1 - r) / r**2, lambda r: r**2 / mp.exp(r), range(5), -half_ln2, half_ln2)
# tanh(x) = x + x^3 p(x^2), in s = x^2
fit("tanh", lambda s: (mp.tanh(mp.sqrt(s)) - mp.sqrt(s)) / mp.sqrt(s) ** 3,
    lambda s: mp.sqrt(s) ** 3 / mp.tanh(mp.sqrt(s)), range(6), 1e-9, 0.625**2 * 1.001)
# erf(x) = x + x p(x^2), in s = x^2
fit("erf, small", lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1,
    lambda s: mp.sqrt(s) / mp.erf(mp.sqrt(s)), range(7), 1e-9, 0.921875**2 * 1.001)
# erf(t) = 1 - exp(r(t)), r = log(erfc(t)); the error of the result is erfc(t) times that of r
fit("erf, large", lambda t: mp.log(mp.erfc(t)), lambda t: mp.erfc(t), range(8), 0.92, 4.0)
# sin(x) = x + x^3 p(x^2), cos(x) = 1 + x^2 q(x^2), in f64: the Taylor coefficients suffice
print("ln2 high", np.float32(0.693359375), "low", repr(np.float32(float(mp.log(2) - mp.mpf("0.693359375")))))
print("log2e", repr(np.float32(float(1 / mp.log(2)))))
two_over_pi = int(mp.floor(mp.mpf(2) / mp.pi * mp.mpf(2) ** 0))
mp.mp.dps = 120
bits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** 256))
print("2/pi", [f"{(bits >> (64 * (3 - i))) & (2**64 - 1):#018x}" for i in range(4)])
