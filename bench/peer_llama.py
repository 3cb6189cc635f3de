#!/usr/bin/env python3
"""Speed of llama.cpp (llama-cpp-python) on a GGUF file, to compare eqat with.

Reads a prompt of 512 random tokens, then writes 128, the most likely each time, on 2 threads: the
same work as `eqat bench MODEL --only decode`. Prints one JSON line. With --eqat, eqat's own figures
on the same file, or on --model, are measured in turn with llama.cpp's, and the line gets the medians
of the ratios.
"""
import argparse
import json
import random
import statistics
import subprocess
import time

from llama_cpp import Llama

PROMPT, TOKENS = 512, 128


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def write_token(model):
    model.eval([model.sample(temp=0)])


def measure(model):
    """Tokens a second of reading, and of writing by the median token."""
    vocabulary = model.n_vocab()
    prompt = [random.Random(i).randrange(vocabulary) for i in range(PROMPT)]
    model.reset()
    reading = seconds(lambda: model.eval(prompt))
    writing = statistics.median(seconds(lambda: write_token(model)) for _ in range(TOKENS))
    return PROMPT / reading, 1 / writing


def measure_eqat(eqat, path, threads):
    command = [eqat, "bench", path, "--only", "decode", "--json", "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)["decode"]
    return figures["read"], figures["write"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf")
    parser.add_argument("--eqat", help="the program, to compare with")
    parser.add_argument("--model", help="what eqat runs; without it the same file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    model = Llama(args.gguf, n_ctx=PROMPT + TOKENS, n_batch=PROMPT, n_threads=args.threads,
                  n_threads_batch=args.threads, verbose=False)
    measure(model)  # the first one maps the file and warms up
    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs.append(measure(model))
        if args.eqat:
            ours.append(measure_eqat(args.eqat, args.model or args.gguf, args.threads))
    line = {}
    for i, what in enumerate(("read", "write")):
        line[what] = round(statistics.median(t[i] for t in theirs), 1)
        if not ours:
            continue
        line["eqat_" + what] = round(statistics.median(o[i] for o in ours), 1)
        line["ratio_" + what] = round(statistics.median(o[i] / t[i]
                                                        for o, t in zip(ours, theirs)), 2)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
