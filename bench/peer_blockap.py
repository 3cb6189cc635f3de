#!/usr/bin/env python3
"""Speed of one Block-AP training step in PyTorch, to compare eqat with.

The work is that of SmolLM2-135M: one decoder block, batch 2 x 1024, 2-bit fake quantization by
groups of 64, mean squared error against a target, AdamW on weights and norms (one rate) and on
scales and zeros (another). Data and weights are random. Prints one JSON line. With --eqat, eqat's
own figure is measured in turn with PyTorch's, and the line gets the median of the ratios.

PyTorch gets what suits it: matrix products in bf16 or f32, whichever is faster on this CPU. Some
virtual machines hide a part of AMX, and its bf16 products then die of an illegal instruction; this
is tried first, and PyTorch (not eqat) is then kept to AVX-512, which the line shows as "isa".
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ISA = "ONEDNN_MAX_CPU_ISA"  # read by PyTorch's oneDNN at its first product
PROBE = "import torch; a = torch.ones(256, 256, dtype=torch.bfloat16); a @ a"
if ISA not in os.environ and subprocess.run([sys.executable, "-c", PROBE]).returncode < 0:
    os.environ[ISA] = "AVX512_CORE_BF16"

import torch

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
from torch_block import NORMS, FakeQuant, Shape, block, fake_quant, linear_sizes, rope_tables

SHAPE = Shape(C=576, H=9, Hkv=3, D=64, F=1536, eps=1e-5, theta=1e5)
B, T, BITS, GROUP = 2, 1024, 2, 64


class Step:
    """The trainable block, its optimizer and its data; calling it does one training step."""

    def __init__(self, precision, compiled):
        torch.manual_seed(0)
        self.precision = precision
        self.weights, self.grids = {}, {}
        for name, (N, K) in linear_sizes(SHAPE).items():
            w = torch.randn(N, K) * K**-0.5
            low, high = w.view(N, K // GROUP, GROUP).aminmax(dim=-1)
            scale = (high - low) / (2**BITS - 1)
            self.weights[name + ".weight"] = w.requires_grad_()
            self.grids[name + ".weight"] = (scale.requires_grad_(),
                                            (-low / scale.detach()).round().requires_grad_())
        for name in NORMS:
            self.weights[name + ".weight"] = torch.ones(SHAPE.C, requires_grad=True)
        grids = [t for pair in self.grids.values() for t in pair]
        self.optimizer = torch.optim.AdamW(
            [{"params": list(self.weights.values()), "lr": 2e-5}, {"params": grids, "lr": 1e-4}],
            weight_decay=0, fused=True)
        self.x, self.target = torch.randn(2, B, T, SHAPE.C).unbind(0)
        self.tables = rope_tables(T, SHAPE, getattr(torch, precision))
        # The compiler fuses the plain form by itself; eager mode gains from the closed gradient.
        self.quantize = fake_quant if compiled else FakeQuant.apply
        self.forward = torch.compile(self.loss) if compiled else self.loss

    def loss(self):
        weights = dict(self.weights)
        for name, (s, z) in self.grids.items():
            weights[name] = self.quantize(weights[name], s, z, BITS)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            y = block(self.x, weights, SHAPE, self.tables)
        return torch.nn.functional.mse_loss(y.float(), self.target)

    def __call__(self):
        loss = self.forward()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def seconds_per_step(step, warm_up, count):
    """Median duration of `count` steps after `warm_up` others."""
    times = []
    for _ in range(warm_up + count):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])


def eqat_tokens_per_second(program, threads, group):
    """What `eqat bench` measures for the same work, "step" or "e2e"."""
    environment = {name: value for name, value in os.environ.items() if name != ISA}
    run = subprocess.run([program, "bench", "--json", "--only", group, "--threads", str(threads)],
                         check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(run.stdout)[group]["tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="steps to take the median of")
    parser.add_argument("--compile", action="store_true",
                        help="torch.compile (needs a C++ compiler)")
    parser.add_argument("--precision", choices=("best", "bfloat16", "float32"), default="best",
                        help="of the matrix products (default: the faster one)")
    parser.add_argument("--eqat", metavar="PATH", help="the eqat program to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="alternations with --eqat")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    names = ("bfloat16", "float32") if args.precision == "best" else (args.precision,)
    steps = [Step(name, args.compile) for name in names]
    step = min(steps, key=lambda step: seconds_per_step(step, 2, 3)) if steps[1:] else steps[0]
    seconds = seconds_per_step(step, 3, args.steps)
    result = {"torch": torch.__version__, "threads": args.threads, "compiled": args.compile,
              "precision": step.precision, "isa": os.environ.get(ISA, "default")}
    if args.eqat:
        peer, ours = [], []
        for _ in range(args.rounds):
            peer.append(B * T / seconds_per_step(step, 1, args.steps))
            ours.append(eqat_tokens_per_second(args.eqat, args.threads, "step"))
        seconds = B * T / statistics.median(peer)
        result["eqat_tokens_per_second"] = statistics.median(ours)
        result["ratio"] = statistics.median(o / p for o, p in zip(ours, peer))
    result.update(seconds_per_step=seconds, tokens_per_second=B * T / seconds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
