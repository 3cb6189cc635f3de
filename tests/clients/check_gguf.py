#!/usr/bin/env python3
"""Is an exported GGUF file what the `gguf` package says it should be?

  check_gguf.py EQAT MODEL FILE.gguf

Reads FILE with the package: architecture, alignment, names, shapes, and every tensor of a type that
the package dequantizes, compared with the weights of MODEL as eqat writes them in f32. Q2_0, which
the package does not know, is unpacked here by its definition.
"""
import enum
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

# The package learns of a type that it does not know: 64 elements in 18 bytes.
import gguf.gguf_reader
known = gguf.constants.GGMLQuantizationType
if "Q2_0" not in known.__members__:
    wider = enum.IntEnum("GGMLQuantizationType", {**{k.name: k.value for k in known}, "Q2_0": 42})
    gguf.constants.GGML_QUANT_SIZES[wider.Q2_0] = (64, 18)
    gguf.gguf_reader.GGMLQuantizationType = wider
from gguf import GGUFReader
from safetensors import safe_open

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
from gguf_reader import NAMES, OUTER


def values(tensor):
    """A tensor of the file as f32, rows first."""
    shape = tuple(int(n) for n in reversed(tensor.shape))
    if tensor.tensor_type.name == "Q2_0":
        blocks = tensor.data.reshape(-1, 18)
        codes = (blocks[:, 2:, None] >> np.arange(0, 8, 2, dtype=np.uint8)) & 3
        step = blocks[:, :2].copy().view("<f2").astype(np.float32)
        return ((codes.reshape(-1, 64).astype(np.float32) - 1) * step).reshape(shape)
    kind = gguf.constants.GGMLQuantizationType(int(tensor.tensor_type))
    return gguf.dequantize(tensor.data, kind).astype(np.float32).reshape(shape)


def hugging_face(name, array, heads):
    """Its name there, and its rows in the order there; heads: of what is in rotary pairs."""
    if name in OUTER:
        return OUTER[name], array
    _, layer, part, leaf = name.split(".")
    if part in heads:
        pairs = array.reshape(heads[part], -1, 2, *array.shape[1:])
        array = pairs.swapaxes(1, 2).reshape(array.shape)
    return f"model.layers.{layer}.{NAMES[part]}.{leaf}", array


def field(reader, key):
    return reader.get_field(key).contents()


def main():
    eqat, model, path = sys.argv[1:]
    reader = GGUFReader(path)
    family = field(reader, "general.architecture")
    assert family in ("llama", "qwen2", "qwen3") and reader.alignment == 32
    assert field(reader, "tokenizer.ggml.model") == "gpt2"
    tokens = field(reader, "tokenizer.ggml.tokens")
    assert len(tokens) == field(reader, family + ".vocab_size") == len(set(tokens))
    assert len(field(reader, "tokenizer.ggml.token_type")) == len(tokens)
    heads = {"attn_q": field(reader, family + ".attention.head_count"),
             "attn_k": field(reader, family + ".attention.head_count_kv")}
    if family != "llama":
        heads = {}
    most, types = 0.0, {}
    with tempfile.TemporaryDirectory() as folder:
        dense = folder + "/dense"
        subprocess.run([eqat, "export", model, "-o", dense, "-q", "--format", "dense", "--dtype",
                        "f32"], check=True, capture_output=True)
        with safe_open(dense + "/model.safetensors", "np") as ours:
            assert len(reader.tensors) == len(ours.keys())
            for tensor in reader.tensors:
                name, array = hugging_face(tensor.name, values(tensor), heads)
                want = ours.get_tensor(name)
                assert array.shape == want.shape, name
                most = max(most, float(abs(array - want).max()))
                kind = tensor.tensor_type.name
                types[kind] = types.get(kind, 0) + 1
    # Offsets of Q4_1 are rounded to halves: by at most 2^-11 of 15 steps.
    bound = 0.01 if "Q4_1" in types else 0
    print(f"{path}: {types}, largest difference {most:.3g}")
    return 0 if most <= bound else 1


if __name__ == "__main__":
    sys.exit(main())
