#!/usr/bin/env python3
"""Compare the quantized embedding and head of a folder with their definition in numpy.

  check_ends.py SOURCE FOLDER DENSE

SOURCE is the full-precision folder. Of every quantized one: the configuration names its bits, all
zero points are the middle code, and no group is further from the source than the numpy search gets
it. DENSE becomes FOLDER with these two as plain F32 matrices, whose logits must be the same.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from gptq_reader import fields, settings
from rtn_model import quantize

NAMES = ("model.embed_tokens", "lm_head")
PARTS = (".qweight", ".qzeros", ".scales", ".g_idx")
GROUP = 32


def errors(w, rows):
    return np.square((w - rows).astype(np.float64)).reshape(len(w), -1, GROUP).sum(-1)


def rows_of(name, tensors, config, w):
    """The weight [V, C] of the packed tensors, checked against w."""
    own = settings(config, name)
    bits = own["bits"]
    words, zeros, scales, order = (tensors.pop(name + part) for part in PARTS)
    assert own["group_size"] == GROUP and own["sym"] is True
    assert (order == np.arange(w.shape[1]) // GROUP).all(), "g_idx"
    assert (fields(zeros, bits) == 1 << bits - 1).all(), "zero points"
    codes, scales = fields(words.T, bits).astype(np.float32), scales.T.astype(np.float32)
    rows = (codes - (1 << bits - 1)) * scales.repeat(GROUP, 1)
    best, zero, scale = quantize(w, bits, GROUP, True, np.ones(w.shape[1]))
    best = (best.astype(np.float32) - zero.repeat(GROUP, 1)) * scale.repeat(GROUP, 1)
    # The same search; where two scales are as good, sums in another order may choose the other.
    worse = errors(w, rows) > 1.02 * errors(w, best) + 1e-12
    assert not worse.any(), f"{name}: {worse.sum()} groups are not the nearest"
    return rows


def main():
    source, folder, dense = map(pathlib.Path, sys.argv[1:])
    config = json.loads((folder / "config.json").read_text())
    own = config["quantization_config"]
    assert own == json.loads((folder / "quantize_config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    weights = load_file(source / "model.safetensors")
    assert own["lm_head"] == ("lm_head.qweight" in tensors)
    quantized = [name for name in NAMES if name + ".qweight" in tensors]
    assert quantized, "nothing is quantized"
    for name in quantized:
        key = f"{name}.weight"
        tensors[key] = np.ascontiguousarray(rows_of(name, tensors, own, weights[key]))
    shutil.copytree(folder, dense)
    save_file(tensors, dense / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
