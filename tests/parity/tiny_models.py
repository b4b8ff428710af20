"""Two small random pipelines of Stable Diffusion's shapes, with other widths, heads and settings.

`tiny-sd1`: heads as one number, 1x1 convolutions as projections, quick_gelu, weights in f16.
`tiny-sd2`: heads as a list, linear projections of two layers, gelu, v-prediction, "!" as padding,
weights in bf16, tokenizer as `vocab.json` and `merges.txt`.
"""

import collections
import json

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CORPUS = [
    "a photograph of an astronaut riding a horse on the moon",
    "the quick brown fox doesn't jump over the lazy dog, it's 2026!",
    "red apple on a yellow background, highly detailed, artstation",
]


def vocabulary(merges_wanted=80):
    """A byte-level vocabulary and merges as CLIP has them, learnt from a few sentences.

    Pairs of equal count are taken in alphabetical order, so that every run learns the same.
    """
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    words = [word for text in CORPUS for word, _ in split.pre_tokenize_str(text)]
    words = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while len(merges) < merges_wanted:
        counts = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        words = [merge(word, best) for word in words]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(pair) for pair in merges), BEGIN, END]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges


def merge(word, pair):
    """The word with every occurrence of the pair joined, from left to right."""
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def roughen(module, generator):
    """Moves every weight away from its initial ones and zeros, so that each of them matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def pipeline(text, unet, vae, scheduler, pad, seed):
    vocab, merges = vocabulary()
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=text["max_position_embeddings"])
    text = CLIPTextModel(
        CLIPTextConfig(vocab_size=len(vocab), bos_token_id=vocab[BEGIN], eos_token_id=vocab[END], pad_token_id=vocab[pad], **text)
    )
    unet, vae = UNet2DConditionModel(**unet), AutoencoderKL(**vae)
    for module in (text, unet, vae):
        roughen(module, generator)
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )


def vae(channels, latent, groups):
    blocks = len(channels)
    return dict(
        block_out_channels=channels, latent_channels=latent, norm_num_groups=groups, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks,
    )


def tiny_sd1():
    return pipeline(
        text=dict(hidden_size=30, intermediate_size=52, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=19),
        unet=dict(
            sample_size=9, in_channels=4, out_channels=4, block_out_channels=(18, 30, 30), norm_num_groups=6,
            layers_per_block=1, attention_head_dim=3, cross_attention_dim=30, freq_shift=0, flip_sin_to_cos=True,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        ),
        vae=vae((6, 9, 12, 12), 4, 3),
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        pad=END, seed=1,
    ), torch.float16


def tiny_sd2():
    return pipeline(
        text=dict(
            hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=21,
            hidden_act="gelu",
        ),
        unet=dict(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), norm_num_groups=8,
            layers_per_block=2, attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), cross_attention_dim=24,
            use_linear_projection=True, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        vae=vae((4, 8, 8, 8), 4, 4),
        scheduler=DDIMScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="linear", prediction_type="v_prediction",
            timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True, steps_offset=1,
        ),
        pad="!", seed=2,
    ), torch.bfloat16


def write_old_tokenizer(folder, pad, window):
    """Replaces `tokenizer.json` by the four files that Stable Diffusion 1 and 2 were published with."""
    vocab, merges = vocabulary()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = dict(bos_token=BEGIN, eos_token=END, unk_token=END, pad_token=pad)
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    config = dict(special, model_max_length=window, tokenizer_class="CLIPTokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


MODELS = {"tiny-sd1": tiny_sd1, "tiny-sd2": tiny_sd2}
