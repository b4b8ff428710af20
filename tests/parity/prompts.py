"""Weighted prompts, chunks and learned words of the small pipelines.

Writes `adapters/embedding-*.safetensors`, the learned words; `golden/prompts.json`, the cases;
`golden/prompts.safetensors`, what each text becomes. `generate.py` calls `main`.

Plain prompts with learned words are diffusers' (`load_textual_inversion`, `encode_prompt`). Weighted ones are
computed here with transformers' CLIP, in the steps that the AUTOMATIC1111 web interface takes. How that program
reads brackets is a table, `golden/prompt_parses.json`, which was written by the program's own
`parse_prompt_attention` (commit 28bd8e1) and which this script only reads.
"""

import json
import pathlib
import shutil
import tempfile

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
GOLDEN, MODELS, ADAPTERS = HERE / "golden", HERE / "models", HERE / "adapters"
# How many tokens before the end of a full chunk a comma may stand for the chunk to end behind it.
BACKTRACK = 20
# word: the file, for the models whose width it has
WORDS = {
    "tiny-sd1": {"mystyle": "embedding-params", "<cat-toy>": "embedding-word"},
    "tiny-sdxl": {"mystyle": "embedding-sdxl"},
}
LONG = "a photograph of an astronaut riding a horse on the moon, red apple, yellow background, lazy dog, brown fox"
WEIGHTED = [
    "",
    "an astronaut (riding:1.3) a horse on the [moon]",
    LONG + ", (highly detailed:1.2), artstation",
    "the quick brown fox BREAK (jumps:1.5) over the lazy dog",
    f"({LONG.replace(',', '')}:0.8)",
    "BREAK moon BREAK BREAK",
    "(dog:-0.7) cat",
    "((wow!)) [red apple (moon:1.6), yellow",
]
WEIGHTED_WORDS = [
    "red apple, (mystyle:1.4), yellow background",
    "a photograph of an astronaut riding a horse, red apple, a mystyle on the moon, <Cat-Toy>, dog",
]
PLAIN_WORDS = [
    "a mystyle apple, <cat-toy>, yellow dog",
    "<cat-toy>",
    "the quick brown fox jumps over the dog, a mystyle moon",
    "an astronaut without any learned word",
]


def write_words(pipes):
    generator = torch.Generator().manual_seed(31)

    def vectors(encoder, count):
        width = encoder.config.hidden_size
        return torch.randn((count, width), generator=generator) * 0.5

    if "tiny-sd1" in pipes:
        encoder = pipes["tiny-sd1"].text_encoder
        save_file({"emb_params": vectors(encoder, 3)}, ADAPTERS / "embedding-params.safetensors")
        save_file({"<cat-toy>": vectors(encoder, 1)[0].clone()}, ADAPTERS / "embedding-word.safetensors")
    if "tiny-sdxl" in pipes:
        pipe = pipes["tiny-sdxl"]
        both = {"clip_l": vectors(pipe.text_encoder, 2), "clip_g": vectors(pipe.text_encoder_2, 2)}
        save_file(both, ADAPTERS / "embedding-sdxl.safetensors")


def load(model):
    kind = StableDiffusionXLPipeline if model == "tiny-sdxl" else StableDiffusionPipeline
    return kind.from_pretrained(MODELS / model, torch_dtype=torch.float32)


def encoders(pipe):
    """Each text encoder with its tokenizer."""
    pairs = [(pipe.tokenizer, pipe.text_encoder)]
    if isinstance(pipe, StableDiffusionXLPipeline):
        pairs.append((pipe.tokenizer_2, pipe.text_encoder_2))
    return pairs


def learned(model, tokenizer, index):
    """The learned words of one text encoder: the tokens of each name, the longest first, and its vectors."""
    words = []
    for word, file in WORDS.get(model, {}).items():
        tensors = load_file(ADAPTERS / f"{file}.safetensors")
        tensor = tensors["clip_g"] if index == 1 else tensors.get("clip_l", next(iter(tensors.values())))
        ids = tokenizer(word, add_special_tokens=False).input_ids
        words.append((ids, tensor.reshape(-1, tensor.shape[-1])))
    return sorted(words, key=lambda word: -len(word[0]))


def lay_out(pieces, tokenizer, room, words):
    """Chunks of at most `room` places, each a token or a learned vector, with its weight."""
    comma = tokenizer.get_vocab().get(",</w>")
    chunks, chunk, last_comma = [], [], None

    def finish():
        nonlocal chunk, last_comma
        chunks.append(chunk)
        chunk, last_comma = [], None

    for text, weight in pieces:
        if text == "BREAK" and weight == -1:
            finish()
            continue
        ids = tokenizer(text, add_special_tokens=False).input_ids
        place = 0
        while place < len(ids):
            if ids[place] == comma:
                last_comma = len(chunk)
            elif len(chunk) == room and last_comma is not None and room - last_comma <= BACKTRACK:
                kept, moved = chunk[: last_comma + 1], chunk[last_comma + 1 :]
                chunk = kept
                finish()
                chunk = moved
            if len(chunk) == room:
                finish()
            word = next((word for word in words if ids[place : place + len(word[0])] == word[0]), None)
            if word is None:
                chunk.append((ids[place], weight))
                place += 1
                continue
            if len(chunk) + len(word[1]) > room:
                finish()
            chunk += [(vector, weight) for vector in word[1]]
            place += len(word[0])
    if chunk or not chunks:
        finish()
    return chunks


def encode_chunk(chunk, tokenizer, encoder, hidden_state, normed):
    """One chunk's hidden states with its weights in them, and its pooled text."""
    window = tokenizer.model_max_length
    ids = [tokenizer.bos_token_id, *(0 if torch.is_tensor(token) else token for token, _ in chunk), tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * (window - len(ids))
    weights = torch.ones(window)
    weights[1 : 1 + len(chunk)] = torch.tensor([float(weight) for _, weight in chunk])
    vectors = {place + 1: token for place, (token, _) in enumerate(chunk) if torch.is_tensor(token)}

    def replace(_module, _inputs, output):
        for place, vector in vectors.items():
            output[0, place] = vector
        return output

    hook = encoder.get_input_embeddings().register_forward_hook(replace)
    out = encoder(torch.tensor([ids]), output_hidden_states=True)
    hook.remove()
    hidden = out.hidden_states[hidden_state]
    if normed:
        hidden = getattr(encoder, "text_model", encoder).final_layer_norm(hidden)
    before = hidden.mean()
    hidden = hidden * weights[None, :, None]
    hidden = hidden * (before / hidden.mean())
    return hidden, getattr(out, "text_embeds", None)


def window(chunk, tokenizer, vectors):
    """One chunk's window for `strict_adapters.py`: learned vectors are -1 - index in `vectors`."""

    def token(value):
        if not torch.is_tensor(value):
            return value
        return -1 - next(index for index, vector in enumerate(vectors) if torch.equal(vector, value))

    length = tokenizer.model_max_length
    ids = [tokenizer.bos_token_id, *(token(value) for value, _ in chunk), tokenizer.eos_token_id]
    weights = [1.0, *(float(weight) for _, weight in chunk)]
    pad = [tokenizer.pad_token_id] * (length - len(ids))
    return dict(ids=ids + pad, weights=weights + [1.0] * (length - len(weights)))


def weighted(model, pipe, prompt, parses, skip=0, chunks=None):
    """What a weighted prompt becomes, in at least `chunks` chunks, and the windows of its first encoder."""
    sdxl = isinstance(pipe, StableDiffusionXLPipeline)
    columns, pooled, pieces = [], None, parses[prompt]
    if "<cat-toy>" in WORDS.get(model, {}):
        # A name with marks at its edges is a word of its own; diffusers has it so, by adding it to the vocabulary.
        pieces = [(text.replace("<Cat-Toy>", " <Cat-Toy> "), weight) for text, weight in pieces]
    for index, (tokenizer, encoder) in enumerate(encoders(pipe)):
        laid = lay_out(pieces, tokenizer, tokenizer.model_max_length - 2, learned(model, tokenizer, index))
        laid += [[]] * ((chunks or 0) - len(laid))
        rows = [encode_chunk(chunk, tokenizer, encoder, -2 - skip if sdxl else -1 - skip, not sdxl) for chunk in laid]
        if index == 0:
            files = [load_file(ADAPTERS / f"{file}.safetensors") for file in WORDS.get(model, {}).values()]
            vectors = [vector for file in files for tensor in file.values() for vector in tensor.reshape(-1, tensor.shape[-1])]
            windows = [window(chunk, tokenizer, vectors) for chunk in laid]
        columns.append(torch.cat([hidden for hidden, _ in rows], dim=1))
        pooled = rows[0][1] if rows[0][1] is not None else pooled
    return torch.cat(columns, dim=2), pooled, windows


def plain(pipe, prompt):
    if isinstance(pipe, StableDiffusionXLPipeline):
        embeds, _, pooled, _ = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        return embeds, pooled
    return pipe.encode_prompt(prompt, "cpu", 1, False)[0], None


def teach(model, pipe):
    """Loads the learned words as diffusers does.

    The ids that it gives them are larger than the end's, which an encoder that looks for the largest takes for the
    end. That is mended here: other programs pool at the end of the text.
    """
    for tokenizer, encoder in encoders(pipe):
        getattr(encoder, "text_model", encoder).eos_token_id = tokenizer.eos_token_id
    for word, file in WORDS.get(model, {}).items():
        tensors = load_file(ADAPTERS / f"{file}.safetensors")
        keys = ["clip_l", "clip_g"] if "clip_l" in tensors else [next(iter(tensors))]
        for key, (tokenizer, encoder) in zip(keys, encoders(pipe)):
            pipe.load_textual_inversion({word: tensors[key]}, token=word, tokenizer=tokenizer, text_encoder=encoder)


def short_window():
    """A tokenizer with a smaller window than its text encoder: diffusers pads to the tokenizer's."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MODELS / "tiny-sd1", folder, dirs_exist_ok=True)
        config = pathlib.Path(folder) / "tokenizer" / "tokenizer_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": 11}))
        return plain(StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32), LONG)[0]


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    ADAPTERS.mkdir(exist_ok=True)
    parses = dict(json.loads((GOLDEN / "prompt_parses.json").read_text()))
    models = [model for model in ("tiny-sd1", "tiny-sd2", "tiny-sdxl") if (MODELS / model).is_dir()]
    pipes = {model: load(model) for model in models}
    write_words(pipes)
    tensors, cases = {}, []

    def keep(model, syntax, prompt, made, words=False, skip=0):
        embeds, pooled, rows = made
        name = str(len(cases))
        tensors[f"{name}/sequence"] = embeds.contiguous()
        if pooled is not None:
            tensors[f"{name}/pooled"] = pooled.contiguous()
        words = WORDS[model] if words else {}
        cases.append(dict(name=name, model=model, syntax=syntax, prompt=prompt, words=words, skip=skip, rows=rows))

    for model, pipe in pipes.items():
        for prompt in WEIGHTED:
            keep(model, "weighted", prompt, weighted(model, pipe, prompt, parses))
        keep(model, "weighted", WEIGHTED[1], weighted(model, pipe, WEIGHTED[1], parses, skip=1), skip=1)
        keep(model, "weighted", WEIGHTED[6], weighted(model, pipe, WEIGHTED[6], parses, chunks=3))
        if model not in WORDS:
            continue
        for prompt in WEIGHTED_WORDS:
            keep(model, "weighted", prompt, weighted(model, pipe, prompt, parses), words=True)
        teach(model, pipe)
        for prompt in PLAIN_WORDS:
            keep(model, "plain", prompt, (*plain(pipe, prompt), [None]), words=True)
    tensors["short-window"] = short_window()
    save_file(tensors, GOLDEN / "prompts.safetensors")
    write_cases(dict(short_window_prompt=LONG), cases)


def write_cases(spec, cases):
    """One case a line: the windows would take one a number."""
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
    head = json.dumps(spec, ensure_ascii=False)[:-1]
    (GOLDEN / "prompts.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
