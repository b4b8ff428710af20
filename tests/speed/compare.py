"""Seedfarm's strict numerics beside PyTorch and diffusers, in float32 on the same cores.

    python -m venv venv && venv/bin/pip install -r tests/parity/requirements.txt
    cargo build --release
    venv/bin/python tests/speed/compare.py target/release/seedfarm

Makes a pipeline with the shapes of Stable Diffusion 1.5 and random weights (2.1 GB in a temporary
folder, or in --model FOLDER, which is kept and used again). Then, for each size and number of threads,
both programs take turns in processes of their own: the text encoder on one prompt, the UNet on a guided
pair, the decoder on one image, and a whole image (20 steps of DDIM, guidance 7.5). PyTorch runs as
diffusers loads it, with contiguous weights; UNet and decoder are timed once more in the memory format
channels_last, which a user can switch on. Each figure is the least of all calls and rounds; memory is the
highest resident set of the process before channels_last is tried.

Prints a line for each stage with the ratio of the two, the ratio to channels_last, and `below` where
Seedfarm is less than 1.3 times as fast as PyTorch or takes more memory. Ends with exit code 1 if anything
is below.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

GOAL = 1.3
STAGES = ["text encoder", "UNet call", "decoder", "whole image"]
PROMPT = "a photograph of an astronaut riding a horse on the moon"


def make_model(folder):
    """Random weights in Stable Diffusion 1.5's shapes, stored as f16."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
    from tiny_models import BEGIN, END, vocabulary

    torch.manual_seed(1)
    vocab, merges = vocabulary()
    ends = dict(bos_token_id=vocab[BEGIN], eos_token_id=vocab[END], pad_token_id=vocab[END])
    pipeline = StableDiffusionPipeline(
        tokenizer=CLIPTokenizer(vocab=vocab, merges=merges, pad_token=END, model_max_length=77),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, **ends,
            )
        ),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            clip_sample=False, set_alpha_to_one=False,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)


def least(calls, work):
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def torch_stages(arguments):
    """PyTorch's seconds for each stage, printed as JSON."""
    import torch
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    pipeline = StableDiffusionPipeline.from_pretrained(
        arguments.model, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    side = arguments.size // 8
    ids = pipeline.tokenizer(PROMPT, padding="max_length", truncation=True, return_tensors="pt").input_ids
    text = pipeline.text_encoder(ids)[0].repeat(2, 1, 1)
    pair, one, step = torch.randn(2, 4, side, side), torch.randn(1, 4, side, side), torch.tensor(501)
    seconds, calls = {"text encoder": least(arguments.calls, lambda: pipeline.text_encoder(ids))}, arguments.calls

    def time_networks(layout):
        x, z = pair.contiguous(memory_format=layout), one.contiguous(memory_format=layout)
        return {
            "UNet call": least(calls, lambda: pipeline.unet(x, step, encoder_hidden_states=text)),
            "decoder": least(calls, lambda: pipeline.vae.decode(z)),
        }

    seconds |= time_networks(torch.contiguous_format)
    if arguments.image:
        size, steps = arguments.size, arguments.steps
        image = lambda: pipeline(PROMPT, height=size, width=size, num_inference_steps=steps, guidance_scale=7.5)
        seconds["whole image"] = least(1, image)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    other = time_networks(torch.channels_last)
    print(json.dumps({"seconds": seconds, "channels_last": other, "peak_bytes": peak}))


def run(command, threads):
    """A program's JSON. Both kinds of thread pool are limited from outside too."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def rounds(arguments, model, size, threads):
    """The least seconds and the highest peak of both programs over all rounds, in turns."""
    numbers = ["--size", str(size), "--threads", str(threads), "--steps", str(arguments.steps), "--calls", str(arguments.calls)]
    image = [] if arguments.no_image else ["--image"]
    programs = {
        "PyTorch": [sys.executable, __file__, "torch", "--model", model, *numbers, *image],
        "Seedfarm": [
            arguments.program, "bench", "engine", "--json", "--model", model, "--prompt", PROMPT, *numbers, *image,
        ],
    }
    best = {name: {"seconds": {}, "channels_last": {}, "peak_bytes": 0} for name in programs}
    for _ in range(arguments.rounds):
        for name, command in programs.items():
            result = run(command, threads)
            best[name]["peak_bytes"] = max(best[name]["peak_bytes"], result["peak_bytes"])
            for kind in ["seconds", "channels_last"]:
                for stage, seconds in result.get(kind, {}).items():
                    best[name][kind][stage] = min(best[name][kind].get(stage, float("inf")), seconds)
    return best


def compare(arguments, model):
    """Prints the table; gives whether every goal was met."""
    met = True
    print(f"{'':34} {'PyTorch':>10} {'Seedfarm':>10} {'ratio':>6} {'to channels_last':>17}")
    for size in arguments.sizes:
        for threads in arguments.thread_counts:
            best = rounds(arguments, model, size, threads)
            theirs, ours = best["PyTorch"], best["Seedfarm"]
            lines = [
                (stage, theirs["seconds"][stage], ours["seconds"][stage], "s", GOAL)
                for stage in STAGES
                if stage in theirs["seconds"]
            ]
            lines.append(("peak memory", theirs["peak_bytes"] / 2**30, ours["peak_bytes"] / 2**30, "GiB", 1.0))
            for what, a, b, unit, goal in lines:
                ratio = a / b
                met &= ratio >= goal
                verdict = "ok" if ratio >= goal else f"below {goal}"
                name = f"{size} px, {threads} thread(s): {what}"
                other = f"{theirs['channels_last'][what] / b:.2f}" if what in theirs["channels_last"] else ""
                print(f"{name:34} {a:6.2f} {unit:3} {b:6.2f} {unit:3} {ratio:6.2f} {other:>17} {verdict}", flush=True)
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the seedfarm executable")
    parser.add_argument("--model", help="folder for the random pipeline; made if it is not there")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--thread-counts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2, help="turns that each program takes")
    parser.add_argument("--calls", type=int, default=3, help="calls of each stage in a turn")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--no-image", action="store_true", help="leave the whole image out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = arguments.model or os.path.join(scratch, "sd15-random")
        if not os.path.exists(os.path.join(model, "model_index.json")):
            print("making a random pipeline in the shapes of Stable Diffusion 1.5", file=sys.stderr)
            make_model(model)
        sys.exit(0 if compare(arguments, model) else 1)


def torch_main():
    parser = argparse.ArgumentParser()
    for name in ["--size", "--threads", "--steps", "--calls"]:
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", action="store_true")
    torch_stages(parser.parse_args(sys.argv[2:]))


if __name__ == "__main__":
    torch_main() if sys.argv[1:2] == ["torch"] else main()
