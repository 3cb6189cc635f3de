#!/usr/bin/env python3
"""Does llama.cpp, through llama-cpp-python, say what eqat says of an exported GGUF file?

  check_llama.py EQAT MODEL FILE.gguf [--most SHARE]

MODEL is what FILE was exported from. Compares the ids of texts, the logits of a prompt (largest
difference as a share of the largest logit, at most --most) and the greedy text on five prompts, and
prints what it sees. llama.cpp rounds activations to 8 bits, or to halves for F16 weights.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import Llama

PROMPTS = ["The capital of France is", "Water boils at", "Once upon a time, there was a",
           "def fibonacci(n):\n", "The three primary colours are red,"]
TEXTS = PROMPTS + ["  Größe 12345\n\n\tx = y;  if (a<b) { return 'don\\'t'; }", "日本語 emoji 🙂 ok"]
TOKENS = 12


def eqat(args, *words):
    return subprocess.run([args.eqat, *words, "-q"], check=True, capture_output=True).stdout


def ids_of(args, text):
    # The folder's own tokenizer: what is compared is the one inside the GGUF file.
    return json.loads(eqat(args, "tokenize", args.model, "--text", text, "--json"))["ids"]


def logits_of(args, ids):
    with tempfile.TemporaryDirectory() as folder:
        out = str(pathlib.Path(folder, "logits.npy"))
        eqat(args, "logits", args.model, "--tokens", ",".join(map(str, ids)), "-o", out,
             "--precision", "f32")
        return np.load(out)


def theirs(llama, ids):
    llama.reset()
    llama.eval(ids)
    return np.array(llama.scores[:len(ids)])


def greedy(args, llama, ids):
    """Both continuations; where they part, how far our two tokens' logits are apart there."""
    llama.reset()
    llama.eval(ids)
    their = []
    for _ in range(TOKENS):
        their.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
        llama.eval(their[-1:])
    logits = logits_of(args, ids + their)
    for i, token in enumerate(their):
        row = logits[len(ids) - 1 + i]
        if int(np.argmax(row)) != token:
            return i, float(row.max() - row[token])
    return TOKENS, 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("eqat")
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--most", type=float, default=1e-2)
    args = parser.parse_args()
    llama = Llama(args.file, n_ctx=256, n_threads=2, logits_all=True, verbose=False)
    bad = [t for t in TEXTS if llama.tokenize(t.encode(), add_bos=False) != ids_of(args, t)]
    ids = ids_of(args, PROMPTS[2])
    ours, their = logits_of(args, ids), theirs(llama, ids)
    share = float(abs(ours - their).max() / abs(ours).max())
    parts = [greedy(args, llama, ids_of(args, p)) for p in PROMPTS]
    same = sum(n == TOKENS for n, _ in parts)
    gap = max(g for _, g in parts)
    print(f"{args.file}: logits {share:.4f} of the largest, top-1 "
          f"{(ours.argmax(1) == their.argmax(1)).mean():.2f}, greedy text the same on {same} of "
          f"{len(PROMPTS)} prompts (largest gap of our logits where they part {gap:.3f}), "
          f"{len(bad)} texts with other ids")
    # Where the greedy texts part, the two best tokens must be closer than the logits are apart.
    close = gap <= 2 * share * abs(ours).max()
    return 0 if share <= args.most and close and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
