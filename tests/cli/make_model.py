#!/usr/bin/env python3
"""Write a small random model as a Hugging Face folder, with nothing but the standard library.

  make_model.py FOLDER [--blocks 3] [--tokenizer] [--tied] [--seed 1] [--windows 20] [--seqlen 32]
      [--vocabulary 257] [--chat] [--wide] [--family llama|llama-bias|mistral|qwen2|qwen3]

The folder also gets tokens.npy, int32 [windows, seqlen], for calibration. With --tokenizer there
are one token per byte and <|end|>, so that any text can be tokenized; with --chat (and a vocabulary
of 259) also <|im_start|> and <|im_end|> and a template for chats.
"""
import argparse
import array
import json
import os
import random
import struct

HIDDEN, MLP, HEADS, KV_HEADS, HEAD_SIZE = 64, 96, 4, 2, 16
ATTENTION, GATED = ("q", "k", "v", "o"), ("gate", "up", "down")
# model_type, class, what config.json says besides, projections with a bias, norms of heads
FAMILIES = {
    "llama": ("llama", "LlamaForCausalLM", {"attention_bias": False, "mlp_bias": False}, (), False),
    "llama-bias": ("llama", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True},
                   ATTENTION + GATED, False),
    "mistral": ("mistral", "MistralForCausalLM", {"sliding_window": None}, (), False),
    "qwen2": ("qwen2", "Qwen2ForCausalLM",
              {"use_sliding_window": False, "sliding_window": 64, "max_window_layers": 2},
              ATTENTION[:3], False),
    "qwen3": ("qwen3", "Qwen3ForCausalLM",
              {"attention_bias": False, "use_sliding_window": False, "sliding_window": None,
               "max_window_layers": 2}, (), True)}


def projections():
    """(name, shape) of the linears of a block."""
    for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
        yield f"self_attn.{name}_proj", (rows * HEAD_SIZE, HIDDEN)
    yield "self_attn.o_proj", (HIDDEN, HEADS * HEAD_SIZE)
    yield "mlp.gate_proj", (MLP, HIDDEN)
    yield "mlp.up_proj", (MLP, HIDDEN)
    yield "mlp.down_proj", (HIDDEN, MLP)


def tensor_list(blocks, tied, vocabulary, family):
    """(name, shape) of every tensor."""
    _, _, _, biased, head_norms = FAMILIES[family]
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    for i in range(blocks):
        block = f"model.layers.{i}."
        yield block + "input_layernorm.weight", (HIDDEN,)
        for name, shape in projections():
            if name.startswith("mlp.gate"):
                yield block + "post_attention_layernorm.weight", (HIDDEN,)
            yield f"{block}{name}.weight", shape
            if name.split(".")[1].removesuffix("_proj") in biased:
                yield f"{block}{name}.bias", shape[:1]
        for name in ("q", "k") if head_norms else ():
            yield f"{block}self_attn.{name}_norm.weight", (HEAD_SIZE,)
    yield "model.norm.weight", (HIDDEN,)
    if not tied:
        yield "lm_head.weight", (vocabulary, HIDDEN)


def values(name, shape, rng):
    """Norm weights near one; matrices of a size that keeps activations near one."""
    if name.endswith(".bias"):
        return array.array("f", (0.3 * rng.gauss(0, 1) for _ in range(shape[0])))
    if len(shape) == 1:
        return array.array("f", (1 + 0.1 * rng.gauss(0, 1) for _ in range(shape[0])))
    scale = shape[1] ** -0.5
    return array.array("f", (scale * rng.gauss(0, 1) for _ in range(shape[0] * shape[1])))


def write_tensors(path, args, rng):
    header, pieces, offset = {}, [], 0
    for name, shape in tensor_list(args.blocks, args.tied, args.vocabulary, args.family):
        data = values(name, shape, rng).tobytes()
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        pieces.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(pieces))


def write_config(path, args):
    model_type, architecture, more, _, _ = FAMILIES[args.family]
    config = {
        "architectures": [architecture], "model_type": model_type, "hidden_size": HIDDEN,
        "intermediate_size": MLP, "num_hidden_layers": args.blocks, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_SIZE, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": args.vocabulary,
        "tie_word_embeddings": args.tied, "hidden_act": "silu",
        "torch_dtype": "float32", "bos_token_id": 256, "eos_token_id": 256, **more}
    with open(path, "w", encoding="utf-8") as out:
        json.dump(config, out, indent=1)


def byte_letters():
    """The letter that stands for each byte in a byte-level vocabulary: printable bytes for
    themselves, the others for what follows U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (b for b in range(256) if b not in printable)
    letters = {b: chr(b) for b in printable}
    letters.update((b, chr(0x100 + n)) for n, b in enumerate(others))
    return [letters[b] for b in range(256)]


def special(number, name):
    return {"id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True}


CHAT_TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + "
                 "'<|im_end|>' + '\\n' }}{% endfor %}")


QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")


def write_tokenizer(folder, chat, qwen):
    names = ["<|end|>"] + (["<|im_start|>", "<|im_end|>"] if chat else [])
    ids = {name: 256 + n for n, name in enumerate(names)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": True}
    split = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False},
        {**level, "trim_offsets": False, "use_regex": False}]}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [special(number, name) for name, number in ids.items()],
        "normalizer": {"type": "NFC"} if qwen else None,
        "pre_tokenizer": split if qwen else level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {**{c: b for b, c in enumerate(byte_letters())}, **ids},
                  "merges": []}}
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as out:
        json.dump(tokenizer, out)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as out:
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|end|>",
                  "eos_token": "<|end|>", "add_bos_token": False}
        json.dump({**config, "chat_template": CHAT_TEMPLATE} if chat else config, out)


def write_tokens(path, windows, seqlen, rng):
    header = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({windows}, {seqlen}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    ids = array.array("i", (rng.randrange(256) for _ in range(windows * seqlen)))
    with open(path, "wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        out.write(ids.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--tokenizer", action="store_true")
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--tied", action="store_true")
    parser.add_argument("--wide", action="store_true", help="rows of 256 and 512")
    parser.add_argument("--family", choices=FAMILIES, default="llama")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=257)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seqlen", type=int, default=32)
    args = parser.parse_args()
    global HIDDEN, MLP, HEAD_SIZE
    if args.wide:
        HIDDEN, MLP, HEAD_SIZE = 256, 512, 64
    if args.family == "qwen3":
        HEAD_SIZE *= 2  # heads together are wider than the hidden size
    rng = random.Random(args.seed)
    os.makedirs(args.folder, exist_ok=True)
    write_tensors(os.path.join(args.folder, "model.safetensors"), args, rng)
    write_config(os.path.join(args.folder, "config.json"), args)
    write_tokens(os.path.join(args.folder, "tokens.npy"), args.windows, args.seqlen, rng)
    if args.tokenizer:
        write_tokenizer(args.folder, args.chat, args.family.startswith("qwen"))


if __name__ == "__main__":
    main()
