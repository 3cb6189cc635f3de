#!/usr/bin/env python3
"""Speed of one window of the end-to-end phase in PyTorch, to compare eqat with.

The work is that of SmolLM2-135M: 30 blocks with frozen 2-bit codes in groups of 64, whose scales
are trained, a tied head of 49152 tokens, one window of 1024 tokens, each block computed again in the
backward pass; the loss is the KL from a full-precision model that runs alongside (or, with --loss
ce, the cross-entropy). Weights and data are random. Prints one JSON line. With --eqat, eqat's own
figure (eqat bench --only e2e, which has the KL) is measured in turn with PyTorch's, and the line gets
the median of the ratios.
"""
import argparse
import ctypes
import json
import os
import resource
import statistics

from peer_blockap import ISA, SHAPE, eqat_tokens_per_second, seconds_per_step  # before torch

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from torch_block import NORMS, Dequantize, block, decoder, linear_sizes

LAYERS, VOCAB, T, GROUP = 30, 49152, 1024, 64
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


class Window:
    """The model, its teacher and a window of tokens; calling it does a training step on it."""

    def __init__(self, loss):
        torch.manual_seed(0)
        self.outer = {"model.embed_tokens.weight": (0.02 * torch.randn(VOCAB, SHAPE.C)).bfloat16(),
                      "model.norm.weight": torch.ones(SHAPE.C).bfloat16()}
        self.norms = {name + ".weight": torch.ones(SHAPE.C).bfloat16() for name in NORMS}
        self.levels, self.scales, self.dense = [], [], []
        for _ in range(LAYERS):
            sizes = linear_sizes(SHAPE).items()
            self.levels.append({n: torch.randint(-1, 3, (N, K // GROUP, GROUP), dtype=torch.int8)
                                for n, (N, K) in sizes})
            self.scales.append({n: torch.full((N, K // GROUP), 0.02, requires_grad=True)
                                for n, (N, K) in sizes})
            if loss == "kl":
                self.dense.append({n + ".weight": 0.02 * torch.randn(N, K) for n, (N, K) in sizes})
                self.dense[-1] = {n: w.bfloat16() for n, w in self.dense[-1].items()}
        self.parameters = [s for scales in self.scales for s in scales.values()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0, fused=True)
        self.tokens = torch.randint(VOCAB, (1, T + 1))

    def quantized(self, i):
        def run(x, tables):
            weights = {n + ".weight": Dequantize.apply(self.scales[i][n], level, torch.bfloat16)
                       for n, level in self.levels[i].items()}
            return block(x, weights | self.norms, SHAPE, tables)

        return lambda x, tables: checkpoint(run, x, tables, use_reentrant=False)

    def full(self, i):
        return lambda x, tables: block(x, self.dense[i] | self.norms, SHAPE, tables)

    def loss(self):
        with torch.autocast("cpu", torch.bfloat16):
            logits = decoder(self.tokens[:, :-1], self.outer,
                             [self.quantized(i) for i in range(LAYERS)], SHAPE)
            if not self.dense:
                return F.cross_entropy(logits[0].float(), self.tokens[0, 1:])
            with torch.no_grad():
                teacher = decoder(self.tokens[:, :-1], self.outer,
                                  [self.full(i) for i in range(LAYERS)], SHAPE)
                teacher = teacher[0].float().log_softmax(-1)
        ours = logits[0].float().log_softmax(-1)
        return F.kl_div(ours, teacher, reduction="batchmean", log_target=True)

    def __call__(self):
        loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 0.3)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="steps to take the median of")
    parser.add_argument("--loss", choices=("kl", "ce"), default="kl")
    parser.add_argument("--eqat", metavar="PATH", help="the eqat program to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="alternations with --eqat")
    args = parser.parse_args()
    if args.eqat and args.loss != "kl":
        parser.error("eqat measures the KL")

    torch.set_num_threads(args.threads)
    # Large buffers come and go at each product: without this their pages are mapped anew each time.
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    window = Window(args.loss)
    seconds = seconds_per_step(window, 1, args.steps)
    result = {"torch": torch.__version__, "threads": args.threads, "loss": args.loss,
              "isa": os.environ.get(ISA, "default")}
    if args.eqat:
        peer, ours = [], []
        for _ in range(args.rounds):
            peer.append(T / seconds_per_step(window, 1, args.steps))
            ours.append(eqat_tokens_per_second(args.eqat, args.threads, "e2e"))
        seconds = T / statistics.median(peer)
        result["eqat_tokens_per_second"] = statistics.median(ours)
        result["ratio"] = statistics.median(o / p for o, p in zip(ours, peer))
    result.update(seconds_per_step=seconds, tokens_per_second=T / seconds,
                  peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
