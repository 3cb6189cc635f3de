#!/usr/bin/env python3
"""Compare logits with a forward pass in double, written down with numpy.

  forward.py FOLDER TOKENS LOGITS.npy [SHARE]

FOLDER is a full-precision Hugging Face folder in F32, in one file; TOKENS are ids with commas. Fails if a
logit is off by more than SHARE (2e-5) of the largest one: sums in f32 over some hundred products.
"""
import json
import struct
import sys

import numpy as np


def load(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[slice(*e["data_offsets"])], "<f4").reshape(e["shape"])
            .astype(np.float64) for name, e in header.items()}


class Model:
    def __init__(self, folder):
        self.weights = load(folder + "/model.safetensors")
        with open(folder + "/config.json", encoding="utf-8") as file:
            self.c = json.load(file)
        self.D = self.c["head_dim"]

    def norm(self, name, x):
        size = np.sqrt((x * x).mean(-1, keepdims=True) + self.c["rms_norm_eps"])
        return x / size * self.weights[name + ".weight"]

    def linear(self, name, x):
        return x @ self.weights[name + ".weight"].T + self.weights.get(name + ".bias", 0)

    def heads(self, block, name, x, count):
        """[T, C] -> [count, T, D], with the norm of its heads where there is one."""
        y = self.linear(f"{block}self_attn.{name}_proj", x).reshape(-1, count, self.D)
        norm = f"{block}self_attn.{name}_norm"
        return (self.norm(norm, y) if norm + ".weight" in self.weights else y).transpose(1, 0, 2)

    def rotate(self, x):
        half = self.D // 2
        frequency = self.c["rope_theta"] ** (-np.arange(half) / half)
        angle = np.outer(np.arange(x.shape[1]), frequency)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate((a * np.cos(angle) - b * np.sin(angle),
                               b * np.cos(angle) + a * np.sin(angle)), -1)

    def attention(self, block, x):
        H, Hkv = self.c["num_attention_heads"], self.c["num_key_value_heads"]
        q = self.rotate(self.heads(block, "q", x, H))
        k = self.rotate(self.heads(block, "k", x, Hkv)).repeat(H // Hkv, 0)
        v = self.heads(block, "v", x, Hkv).repeat(H // Hkv, 0)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(self.D)
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True)) @ v
        return self.linear(block + "self_attn.o_proj", mixed.transpose(1, 0, 2).reshape(len(x), -1))

    def logits(self, tokens):
        embedding = self.weights["model.embed_tokens.weight"]
        x = embedding[tokens]
        for i in range(self.c["num_hidden_layers"]):
            block = f"model.layers.{i}."
            x = x + self.attention(block, self.norm(block + "input_layernorm", x))
            n = self.norm(block + "post_attention_layernorm", x)
            gate = self.linear(block + "mlp.gate_proj", n)
            up = self.linear(block + "mlp.up_proj", n)
            x = x + self.linear(block + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
        return self.norm("model.norm", x) @ self.weights.get("lm_head.weight", embedding).T


def main():
    folder, tokens, path = sys.argv[1:4]
    share = float(sys.argv[4]) if len(sys.argv) > 4 else 2e-5
    want, got = Model(folder).logits([int(t) for t in tokens.split(",")]), np.load(path)
    error = np.abs(got - want).max() / np.abs(want).max()
    print(f"{folder}: off by {error:.1e} of the largest logit, {share:g} allowed")
    sys.exit(0 if got.shape == want.shape and error <= share else 1)


if __name__ == "__main__":
    main()
