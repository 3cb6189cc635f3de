#!/usr/bin/env python3
"""Compare what eqat's rtn wrote with the numpy model of it; fails below 99.9 % equal values.

Checks all linears of the start minmax, and those of block 0 of mse. Of weighted, whose weights are
the mean squares of each linear's input, it checks q, k and v of block 0: their input is the
normalized embedding of the calibration tokens, which must be the same and with --precision f32.
"""
import argparse
import json
import pathlib
import sys

import numpy as np

from gguf_reader import Gguf
from gptq_reader import linears, settings
from rtn_model import quantize

FIRST = "model.layers.0."


def first_inputs(gguf, model, tokens):
    """Mean squares [C] of what q, k and v of block 0 get for the tokens."""
    x = model["model.embed_tokens.weight"][tokens.ravel()].astype(np.float64)
    x /= np.sqrt((x * x).mean(-1, keepdims=True) + gguf.config()["rms_norm_eps"])
    return np.square(x * model[FIRST + "input_layernorm.weight"]).mean(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", help="the full-precision model")
    parser.add_argument("folder", type=pathlib.Path, help="what eqat made of it (GPTQ-v2 tensors)")
    parser.add_argument("--init", choices=("minmax", "mse", "weighted"), default="minmax")
    parser.add_argument("--calib", type=pathlib.Path, help="for weighted: all of its tokens, .npy")
    parser.add_argument("--least", type=float, default=0.999, help="share that must be equal")
    args = parser.parse_args()

    config = json.loads((args.folder / "quantize_config.json").read_text())
    gguf = Gguf(args.gguf)
    model = dict(gguf.weights())
    part = {"minmax": "", "mse": FIRST, "weighted": FIRST + "self_attn."}[args.init]
    expected = {name.removesuffix(".weight") for name in model if "_proj." in name}
    inputs = first_inputs(gguf, model, np.load(args.calib)) if args.init == "weighted" else None
    equal, total = np.zeros(3), np.zeros(3)
    seen, checked = set(), 0
    for name, *values, _ in linears(args.folder):
        seen.add(name)
        if not name.startswith(part) or (args.init == "weighted" and "o_proj" in name):
            continue
        w = model[name + ".weight"]
        weights = np.ones(w.shape[1]) if args.init == "mse" else inputs
        own = settings(config, name)
        ours = quantize(w, own["bits"], own["group_size"], own.get("sym", False), weights)
        for i, (a, b) in enumerate(zip(ours, values)):
            equal[i] += (a == b).sum()
            total[i] += a.size
        checked += 1
    if seen != expected:
        sys.exit(f"{args.folder}: not the linears of the model: {sorted(seen ^ expected)[:3]} ...")
    shares = equal / total
    print(f"{checked} linears; equal codes {shares[0]:.5%}, zeros {shares[1]:.5%}, "
          f"scales {shares[2]:.5%}")
    sys.exit(bool((shares < args.least).any()))


if __name__ == "__main__":
    main()
