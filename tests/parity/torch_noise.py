"""Draws what `torch.randn` draws on the CPU, for Seedfarm's noise source `torch-cpu`.

    venv/bin/python torch_noise.py

Writes `golden/torch_noise.json`: for each seed the draws of one generator in order, short ones in full (the bits of
their float32 in hexadecimal), long ones with their ends and the SHA-256 of all, lowest byte first. Needs an x86-64 processor with
AVX2: on others PyTorch takes its logarithms, sines and cosines from elsewhere. And for `torch-cuda` a twin of the
algorithm in numpy, since the values need a device.
"""

import hashlib
import json
import pathlib

import numpy as np
import torch

from noise import philox4x32_10

GOLDEN = pathlib.Path(__file__).parent / "golden"
SEEDS = (0, 1, 42, 2**32 - 1, 2**32 + 43, 2**63 + 7, 2**64 - 1)
LENGTHS = (1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 4, 5, 64, 100, 1008, 4096, 9, 16384, 65536, 100003)
SHORT = 16


def hexadecimal(values):
    return [f"{bits:08x}" for bits in np.asarray(values, np.float32).view(np.uint32).tolist()]


def describe(values):
    values = np.asarray(values, np.float32)
    if len(values) <= SHORT:
        return dict(length=len(values), bits=hexadecimal(values))
    ends = np.concatenate([values[:2], values[-2:]])
    return dict(length=len(values), ends=hexadecimal(ends), sha256=hashlib.sha256(values.astype("<f4").tobytes()).hexdigest())


def manual_seed(seed):
    # torch takes the seeds of 64 bits that are too large for a signed number as negative ones.
    return torch.Generator("cpu").manual_seed(seed)


def device_twin(seed, draw, length):
    """The algorithm of cuRAND in numpy: float32 steps, the logarithm and the sine from float64."""
    F, D = np.float32, np.float64
    element = np.arange(length, dtype=np.uint64)
    words = philox4x32_10((np.full_like(element, draw), np.zeros_like(element), element, np.zeros_like(element)), (seed & 0xFFFFFFFF, seed >> 32))
    unit = F(2.0**-32)
    turn = F(unit * F(2 * np.pi))
    # Fused: the product is exact in float64, and so is the sum but for bits far below.
    fused = lambda word, factor: (word.astype(F).astype(D) * D(factor) + D(factor) / 2).astype(F)
    radius = np.sqrt(F(-2) * np.log(fused(words[0], unit).astype(D)).astype(F))
    return radius * np.sin(fused(words[1], turn).astype(D)).astype(F)


def main():
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"), "PyTorch's vectorised path is needed"
    cpu = []
    for seed in SEEDS:
        generator = manual_seed(seed)
        draws = [describe(torch.randn(length, generator=generator).numpy()) for length in LENGTHS]
        cpu.append(dict(seed=str(seed), draws=draws))
    cuda = [
        dict(seed=str(seed), draws=[describe(device_twin(seed, draw, length)) for draw, length in enumerate((12, 100, 16384))])
        for seed in SEEDS
    ]
    lines = lambda values: "[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]"
    (GOLDEN / "torch_noise.json").write_text(f'{{"torch": "{torch.__version__}",\n"cpu": {lines(cpu)},\n"cuda_twin": {lines(cuda)}}}\n')


if __name__ == "__main__":
    main()
