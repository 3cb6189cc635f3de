#!/usr/bin/env python3
"""Small random models of every family, and of every kind of super-blocks: our logits are those of
transformers and of llama.cpp.

  check_families.py EQAT      run in the environment of requirements/clients.txt

transformers reads the folder itself, the quantized folder with its weights unpacked by
tools/gptq_reader.py, the folder exported to compressed-tensors, and the GGUF file with
tools/gguf_reader.py; all in f32, where 1e-4 of the largest logit may be the difference. llama.cpp
reads a GGUF file with halves, which it multiplies with halves: 1e-2. It and compressed-tensors are
left out, with a line that says so, where they are not installed.
"""
import importlib.util
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from check_logits import transformers_logits

FAMILIES = ("llama", "llama-bias", "mistral", "qwen2", "qwen3")
IDS = [3, 7, 200, 45, 90, 12, 33, 250, 1, 1, 64, 128]
F32, HALVES, BYTES = 1e-4, 1e-2, 6e-2


def run(*command):
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)


def installed(package):
    return importlib.util.find_spec(package) is not None


class Checks:
    def __init__(self, eqat):
        self.eqat, self.done, self.failed = eqat, 0, 0

    def ours(self, model):
        out = str(model) + ".npy"
        run(self.eqat, "logits", model, "--tokens", ",".join(map(str, IDS)), "-o", out,
            "--precision", "f32")
        return np.load(out)

    def compare(self, what, theirs, model, most):
        share = abs(self.ours(model) - theirs).max() / abs(theirs).max()
        print(f"{what}: off by {share:.1e} of the largest logit, {most:g} allowed")
        self.done += 1
        self.failed += not share <= most


def direct_logits(folder):
    """As transformers loads the folder itself."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([IDS])).logits[0].float().numpy()


def llama_logits(path):
    from llama_cpp import Llama
    llama = Llama(str(path), n_ctx=64, n_threads=2, logits_all=True, verbose=False)
    llama.eval(IDS)
    return np.array(llama.scores[:len(IDS)])


def check_family(checks, family, work):
    folder, packed, symmetric = work / family, work / "packed", work / "symmetric"
    run(sys.executable, ROOT / "tests/cli/make_model.py", folder, "--family", family,
        "--tokenizer")
    checks.compare(f"{family}, transformers", direct_logits(folder), folder, F32)
    for out, options in ((packed, ["--bits", 3]), (symmetric, ["--bits", 4, "--grid",
                                                               "symmetric"])):
        run(checks.eqat, "quantize", folder, "-o", out, "-q", "--method", "rtn", "--init", "mse",
            "--group", 32, *options)
    checks.compare(f"{family}, 3 bits, transformers", transformers_logits(packed, IDS)[1], packed,
                   F32)
    if installed("compressed_tensors"):
        run(checks.eqat, "export", symmetric, "-o", work / "ct", "-q", "--format",
            "compressed-tensors")
        checks.compare(f"{family}, 4 bits, compressed-tensors", direct_logits(work / "ct"),
                       work / "ct", F32)
    for source in (folder, symmetric):
        path = work / f"{source.name}.gguf"
        run(checks.eqat, "export", source, "-o", path, "-q")
        run(sys.executable, ROOT / "tests/clients/check_gguf.py", checks.eqat, source, path)
    checks.compare(f"{family}, GGUF, transformers",
                   transformers_logits(work / f"{family}.gguf", IDS)[1], work / f"{family}.gguf",
                   F32)
    if installed("llama_cpp"):
        run(checks.eqat, "export", folder, "-o", work / "half", "-q", "--format", "dense")
        run(checks.eqat, "export", work / "half", "-o", work / "half.gguf", "-q")
        checks.compare(f"{family}, llama.cpp", llama_logits(work / "half.gguf"),
                       work / "half.gguf", HALVES)


def check_super(checks, grid, work):
    """A model of super-blocks, which llama.cpp multiplies with activations of 8 bits for 256
    columns at a time (seen: 0.036); its twin with the same weights as halves."""
    folder, packed = work / "wide", work / grid
    run(sys.executable, ROOT / "tests/cli/make_model.py", folder, "--wide", "--tokenizer",
        "--vocabulary", 264)
    run(checks.eqat, "quantize", folder, "-o", packed, "-q", "--method", "rtn", "--init", "mse",
        "--grid", grid, "--target", "gguf")
    run(sys.executable, ROOT / "tests/clients/check_gguf.py", checks.eqat, packed,
        packed / "model.gguf")
    if installed("llama_cpp"):
        checks.compare(f"{grid}, llama.cpp", llama_logits(packed / "model.gguf"),
                       packed / "model.gguf", BYTES)
        run(checks.eqat, "export", packed, "-o", work / "half", "-q", "--format", "dense")
        run(checks.eqat, "export", work / "half", "-o", work / "half.gguf", "-q")
        checks.compare(f"{grid} as halves, llama.cpp", llama_logits(work / "half.gguf"),
                       packed, HALVES)


def main():
    checks = Checks(pathlib.Path(sys.argv[1]).resolve())
    for package in ("compressed_tensors", "llama_cpp"):
        if not installed(package):
            print(f"{package} is not installed: left out")
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            check_family(checks, family, pathlib.Path(folder))
    for grid in ("q2_k", "q3_k", "q4_k"):
        with tempfile.TemporaryDirectory() as folder:
            check_super(checks, grid, pathlib.Path(folder))
    print(f"{checks.done} comparisons, {checks.failed} failed")
    return 1 if checks.failed or not checks.done else 0


if __name__ == "__main__":
    sys.exit(main())
