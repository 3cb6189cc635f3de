#!/usr/bin/env python3
"""Compare a model's logits with the golden ones beside it (tests/golden, decoder_*).

  golden_logits.py EQAT FOLDER

Fails if one is off by more than 2e-5 of the largest, which is what sums in f32 may be.
"""
import json
import struct
import subprocess
import sys

import numpy as np

TYPES = {"F32": "<f4", "I32": "<i4"}


def load(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[slice(*e["data_offsets"])], TYPES[e["dtype"]])
            .reshape(e["shape"]) for name, e in header.items()}


def main():
    program, folder = sys.argv[1:3]
    golden = load(folder + "/expected.safetensors")
    worst = 0
    for tokens, want in zip(golden["tokens"], golden["logits"]):
        subprocess.run([program, "logits", folder, "--tokens", ",".join(map(str, tokens)),
                        "-o", "golden.npy", "-q", "--precision", "f32"], check=True)
        worst = max(worst, np.abs(np.load("golden.npy") - want).max() / np.abs(want).max())
    print(f"{folder}: off by {worst:.1e} of the largest logit, 2e-05 allowed")
    sys.exit(0 if worst <= 2e-5 else 1)


if __name__ == "__main__":
    main()
