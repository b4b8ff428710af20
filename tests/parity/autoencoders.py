"""Encoders, decoding in tiles and tiny autoencoders, as diffusers computes them.

    venv/bin/python autoencoders.py

Writes `models/tiny-taesd` and `models/bare-vae`, and `golden/autoencoders.safetensors`. Inputs are Seedfarm's
noise with seed 9, so that nothing but results is stored.
"""

import pathlib
import shutil

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

import noise

HERE = pathlib.Path(__file__).parent
GOLDEN, MODELS = HERE / "golden", HERE / "models"
SEED = 9
# Tile and overlap in latents; 13 x 9 latents make three tiles by two.
TILE, OVERLAP = 8, 2
TILED = (13, 9)


def draw(index, *shape):
    return torch.from_numpy(noise.standard_normal(SEED, index, shape))


def random(module, seed):
    """The module with every weight moved away from its initial ones and zeros, rounded to f16."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.half().float().eval()


def save(module, name):
    shutil.rmtree(MODELS / name, ignore_errors=True)
    module.half().save_pretrained(MODELS / name)
    module.float()


def taesd():
    torch.manual_seed(21)
    return random(AutoencoderTiny(encoder_block_out_channels=(6,) * 4, decoder_block_out_channels=(6,) * 4), 21)


def bare_vae():
    """Without the convolutions about the latents and without attention in the middle."""
    torch.manual_seed(22)
    module = AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1, norm_num_groups=2, latent_channels=3, use_quant_conv=False, use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    return random(module, 22)


def spans(length):
    """The tiles along a side, as docs/DETERMINISM.md says."""
    if length <= TILE:
        return [(0, length)]
    new = length - OVERLAP
    count = -(-new // (TILE - OVERLAP))
    return [(i * new // count, (i + 1) * new // count + OVERLAP) for i in range(count)]


def decode_tiled(vae, latents, scale):
    """Each tile decoded by diffusers, and blended in numpy from docs/DETERMINISM.md."""
    f = np.float32
    shared = OVERLAP * scale
    weight = np.array([f(2 * i + 1) / f(2 * shared) for i in range(shared)], f)

    def join(whole, tile, start, axis):
        tile = np.moveaxis(tile, axis, -1)
        view = np.moveaxis(whole, axis, -1)[..., start : start + tile.shape[-1]]
        if start > 0:
            tile = tile.copy()
            tile[..., :shared] = (f(1) - weight) * view[..., :shared] + weight * tile[..., :shared]
        view[...] = tile

    height, width = latents.shape[2] * scale, latents.shape[3] * scale
    picture = np.zeros((1, 3, height, width), f)
    for top, bottom in spans(latents.shape[2]):
        strip = np.zeros((1, 3, (bottom - top) * scale, width), f)
        for left, right in spans(latents.shape[3]):
            join(strip, vae.decode(latents[:, :, top:bottom, left:right]).sample.numpy(), left * scale, 3)
        join(picture, strip, top * scale, 2)
    return torch.from_numpy(picture)


def autoencoder(golden, name, vae, latent, size):
    pixels = draw(0, 1, 3, *size)
    moments = vae.encode(pixels).latent_dist
    golden[f"{name}/mean"], golden[f"{name}/log_variance"] = moments.mean, moments.logvar
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = draw(1, 1, latent, *TILED)
    if name == "tiny-sd1":
        golden[f"{name}/tiled"] = decode_tiled(vae, latents, scale)
    golden[f"{name}/decoded"] = vae.decode(latents[:, :, :5, :7]).sample


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    golden = {}
    bare, tiny = bare_vae(), taesd()
    save(bare, "bare-vae")
    save(tiny, "tiny-taesd")
    for name, latent, size in [("tiny-sd1", 4, (72, 56)), ("tiny-sd2", 4, (40, 64))]:
        vae = AutoencoderKL.from_pretrained(MODELS / name / "vae", torch_dtype=torch.float32)
        autoencoder(golden, name, vae, latent, size)
    autoencoder(golden, "bare-vae", bare, 3, (9, 14))
    # Latents far beyond the clamp too.
    latents = draw(1, 1, 4, 5, 7) * 3
    golden["tiny-taesd/decoded"] = tiny.decode(latents).sample
    golden["tiny-taesd/encoded"] = tiny.encode(draw(0, 1, 3, 40, 56)).latents
    save_file({name: value.contiguous() for name, value in golden.items()}, GOLDEN / "autoencoders.safetensors")
    print("autoencoders")


if __name__ == "__main__":
    main()
