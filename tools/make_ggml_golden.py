#!/usr/bin/env python3
"""Write tests/golden/ggml.safetensors: random blocks of ggml's types as bytes, and their values as
the `gguf` package dequantizes them (requirements/clients.txt). Q2_0, which the package does not
know, is computed here from its definition."""
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

BLOCKS = 5
# where the halves of a block are
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "TQ2_0": [64],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def blocks(rng, size, halves):
    """Random bytes with finite halves."""
    data = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for at in halves:
        data[:, at:at + 2] = rng.normal(0, 1, BLOCKS).astype("<f2")[:, None].view(np.uint8)
    return data


def main():
    rng = np.random.default_rng(1)
    tensors = {}
    for name, halves in HALVES.items():
        kind = gguf.GGMLQuantizationType[name]
        data = blocks(rng, gguf.GGML_QUANT_SIZES[kind][1], halves)
        tensors[name + ".blocks"] = data
        tensors[name + ".values"] = gguf.dequantize(data, kind).astype(np.float32)
    data = blocks(rng, 18, [0])
    codes = (data[:, 2:, None] >> np.arange(0, 8, 2, dtype=np.uint8)) & 3
    step = data[:, :2].copy().view("<f2").astype(np.float32)
    tensors["Q2_0.blocks"] = data
    tensors["Q2_0.values"] = (codes.reshape(BLOCKS, 64).astype(np.float32) - 1) * step
    save_file(tensors, pathlib.Path(__file__).parents[1] / "tests/golden/ggml.safetensors")


if __name__ == "__main__":
    main()
