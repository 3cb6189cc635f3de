#!/usr/bin/env python3
"""Compare what eqat's rtn wrote with the numpy model of it; fails below 99.9 % equal values."""
import argparse
import json
import pathlib
import sys

import numpy as np

from gguf_reader import Gguf
from gptq_reader import linears
from rtn_model import quantize


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", help="the full-precision model")
    parser.add_argument("folder", type=pathlib.Path, help="what eqat made of it (GPTQ-v2 tensors)")
    parser.add_argument("--least", type=float, default=0.999, help="share that must be equal")
    args = parser.parse_args()

    config = json.loads((args.folder / "quantize_config.json").read_text())
    model = dict(Gguf(args.gguf).weights())
    expected = {name.removesuffix(".weight") for name in model if "_proj." in name}
    equal, total = np.zeros(3), np.zeros(3)
    seen = set()
    for name, *values, _ in linears(args.folder):
        seen.add(name)
        for i, (ours, theirs) in enumerate(zip(quantize(model[name + ".weight"], config["bits"],
                                                        config["group_size"]), values)):
            equal[i] += (ours == theirs).sum()
            total[i] += ours.size
    if seen != expected:
        sys.exit(f"{args.folder}: not the linears of the model: {sorted(seen ^ expected)[:3]} ...")
    shares = equal / total
    print(f"{len(seen)} linears; equal codes {shares[0]:.5%}, zeros {shares[1]:.5%}, "
          f"scales {shares[2]:.5%}")
    sys.exit(bool((shares < args.least).any()))


if __name__ == "__main__":
    main()
