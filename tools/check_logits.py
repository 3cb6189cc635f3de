#!/usr/bin/env python3
"""Compare eqat's logits with those of transformers in f32.

MODEL is a GGUF file or a Hugging Face folder, full-precision or with GPTQ-v2 tensors. eqat runs as
EQAT logits MODEL --tokens 1,2,3 -o FILE.npy; options after -- go to it too. Fails if the largest
difference exceeds the given share of the largest logit.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

import gptq_reader
from gguf_reader import Gguf


def load_gguf(path):
    gguf = Gguf(path)
    config = gguf.config()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)
    return model, {name: torch.from_numpy(array) for name, array in gguf.weights()}


def load_folder(folder):
    """transformers' own loader is not used: for quantized models it needs further packages."""
    config = AutoConfig.from_pretrained(folder)
    weights = {}
    for path in folder.glob("*.safetensors"):
        if path.name != "expected.safetensors":  # of tests/golden
            weights.update(load_file(path))
    if hasattr(config, "quantization_config"):
        del config.quantization_config
        parts = (".qweight", ".qzeros", ".scales", ".g_idx")
        weights = {name: t for name, t in weights.items() if not name.endswith(parts)}
        for name, *parts in gptq_reader.linears(folder):
            weights[name + ".weight"] = torch.from_numpy(gptq_reader.dequantize(*parts))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32), weights


def transformers_logits(path, tokens):
    """tokens [T] (None: 48 of the model's, drawn at random) -> tokens, logits [T, V]."""
    model, weights = load_folder(path) if path.is_dir() else load_gguf(path)
    missing, unknown = model.load_state_dict(weights, strict=False)
    missing = [name for name in missing if name != "lm_head.weight"
               or not model.config.tie_word_embeddings]
    if missing or unknown:
        sys.exit(f"{path}: tensors missing: {missing[:3]}, unknown: {unknown[:3]}")
    if tokens is None:
        tokens = np.random.default_rng(0).integers(model.config.vocab_size, size=48).tolist()
    with torch.no_grad():
        return tokens, model.eval()(input_ids=torch.tensor([tokens])).logits[0].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="GGUF file or Hugging Face folder")
    parser.add_argument("eqat", help="the program")
    parser.add_argument("options", nargs="*", help="further options for it, after --")
    parser.add_argument("--tokens", help="as 1,2,3; default: 48 at random")
    parser.add_argument("--share", type=float, default=1e-3, help="of the largest logit")
    args = parser.parse_args()

    tokens = [int(t) for t in args.tokens.split(",")] if args.tokens else None
    tokens, theirs = transformers_logits(args.model, tokens)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "logits.npy"
        subprocess.run([args.eqat, "logits", args.model, "--tokens", ",".join(map(str, tokens)),
                        "-o", out, *args.options], check=True)
        ours = np.load(out)
    if ours.shape != theirs.shape or ours.dtype != np.float32:
        sys.exit(f"eqat wrote {ours.dtype} {ours.shape}, expected float32 {theirs.shape}")
    share = np.abs(ours - theirs).max() / np.abs(theirs).max()
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    print(f"{len(tokens)} tokens: largest difference {share:.2e} of the largest logit "
          f"(allowed {args.share:.0e}), same best token {same:.1%}")
    sys.exit(not share <= args.share)


if __name__ == "__main__":
    main()
