#!/usr/bin/env python3
"""Print the numbers of docs/tour.md, or with --check compare the page with them.

FOLDER is what `eqat quantize GGUF -o FOLDER --method rtn --init minmax --bits 2 --group 64` wrote.
Needs numpy only. Everything is integers and f32, the same on every CPU, but for the products at
the end, which are summed in f64 and shown with five places.
"""
import argparse
import json
import pathlib
import re
import sys

import numpy as np

from gguf_reader import Gguf
from gptq_reader import dequantize, linears

GGUF_NAME, NAME = "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj"
BITS, GROUP, HEAD = 2, 64, 64
TOP = np.float32(2**BITS - 1)


def short(x):
    """The shortest decimal that gives this f32 back."""
    return np.format_float_positional(np.float32(x), trim="-")


def in_gguf(gguf):
    kind, (rows, columns), offset = gguf.tensors[GGUF_NAME]
    assert kind == 3, "the tour is written for Q4_1"
    row = columns // 32 * 20
    yield f"file          {gguf.data.size} bytes, {len(gguf.tensors)} tensors"
    yield f"name          {GGUF_NAME}"
    yield f"shape         {rows} rows of {columns}"
    yield f"type          Q4_1, {row} bytes a row, {rows * row} in all"
    yield f"first byte    {offset}"


def first_block(gguf, w):
    block = bytes(gguf.data[gguf.tensors[GGUF_NAME][2]:][:20])
    d, m = np.frombuffer(block[:4], "<f2").astype(np.float32)
    yield f"bytes         {block[:4].hex(' ')} | {block[4:].hex(' ')}"
    for name, value, at in (("d", d, 0), ("m", m, 2)):
        half = int.from_bytes(block[at:at + 2], "little")
        yield f"{name}             {half:#06x} = {short(value)}"
    for j in (0, 1):
        for k, code in ((j, block[4 + j] & 15), (j + 16, block[4 + j] >> 4)):
            value = np.float32(np.float32(code) * d) + m
            assert value == w[0, k]
            yield f"element {k:<5} byte {block[4 + j]:02x}, code {code:2}: {short(value)}"


def row_order(gguf, w):
    stored = gguf.dequantize(GGUF_NAME)
    row = np.arange(len(w))
    head, r = row // HEAD, row % HEAD
    place = head * HEAD + 2 * (r % (HEAD // 2)) + r // (HEAD // 2)
    shown = [0, 1, 2, 31, 32, 33, 63, 64, 65]
    yield "row of the model   " + "".join(f"{i:5}" for i in shown)
    yield "row in the file    " + "".join(f"{i:5}" for i in place[shown])
    equal = (stored[place] == w).all(1).sum()
    yield f"equal rows         {equal} of {len(w)}"


def start_values(w):
    """s, z [N, K/g] as eq_start_values gives them, in f32."""
    groups = w.reshape(len(w), -1, GROUP)
    low = np.minimum(groups.min(-1), np.float32(0))
    high = np.maximum(groups.max(-1), np.float32(0))
    s = np.maximum((high - low) / TOP, np.float32(1e-4))
    return s, np.clip(np.rint(-low / s), 0, TOP)


def fake_quantized(w, s, z):
    group = w[0, :GROUP]
    yield f"min, max      {short(group.min())}, {short(group.max())}"
    yield f"s             {short(s[0, 0])}"
    yield f"-min / s      {short(-group.min() / s[0, 0])}"
    yield f"z             {int(z[0, 0])}"
    yield " k            w         w/s  rne   v  q           w^"
    for k in range(8):
        u = group[k] / s[0, 0]
        v = np.rint(u) + z[0, 0]
        q = np.clip(v, 0, TOP)
        yield (f"{k:2} {short(group[k]):>12} {u:11.7f} {int(np.rint(u)):4} {int(v):3} {int(q):2} "
               f"{short((q - z[0, 0]) * s[0, 0]):>12}")


def gradients(w, s, z):
    yield "element   scale       w/s  v  q     dw        ds        dz    edges"
    zero = z[0, 0]
    for k, scale in ((0, s[0, 0]), (3, s[0, 0]), (4, np.float32(0.4))):
        u = w[0, k] / scale
        v = np.rint(u) + zero
        q = np.clip(v, 0, TOP)
        for edges, out in (("inside", v != q), ("clipped", not 0 < v < TOP)):
            ds = q - zero if out else np.rint(u) - u
            dz = -scale if out else np.float32(0)
            yield (f"[0, {k}]   {scale:8.5f} {u:8.5f} {int(v):2} {int(q):2} {int(not out):6} "
                   f"{ds:9.5f} {dz:9.5f}    {edges}")


def offsets(folder):
    """name -> first byte of each tensor in model.safetensors."""
    data = np.memmap(folder / "model.safetensors", np.uint8, "r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:start].tobytes())
    return {name: start + t["data_offsets"][0] for name, t in header.items()
            if name != "__metadata__"}


def frozen(w, s, z):
    """Codes and scales as fake_freeze gives them."""
    s16 = s.astype(np.float16).astype(np.float32)
    groups = w.reshape(len(w), -1, GROUP)
    code = np.clip(np.rint(groups / s16[..., None]) + z[..., None], 0, TOP)
    return code.reshape(w.shape).astype(np.uint8), s16


def packed(w, s, z, folder, linear):
    codes, zeros, scales, _ = linear
    ours, s16 = frozen(w, s, z)
    data = np.memmap(folder / "model.safetensors", np.uint8, "r")
    at = {end: offsets(folder)[f"{NAME}.{end}"] for end in ("qweight", "qzeros", "scales")}
    word = {end: int(data[first:first + 4].view("<u4")[0]) for end, first in at.items()}
    half = word["scales"] & 0xffff
    yield f"first bytes        qweight {at['qweight']}, qzeros {at['qzeros']}, scales {at['scales']}"
    yield f"scale [0, 0]       {half:#06x} = {short(s16[0, 0])}"
    yield "codes [0, 0..15]   " + " ".join(map(str, codes[0, :16]))
    yield f"qweight [0, 0]     {word['qweight']:#010x}"
    yield "zeros [0..15, 0]   " + " ".join(map(str, zeros[:16, 0]))
    yield f"qzeros [0, 0]      {word['qzeros']:#010x}"
    yield f"equal codes        {(ours == codes).sum()} of {codes.size}"
    yield f"equal zeros        {(z == zeros).sum()} of {zeros.size}"
    yield f"equal scales       {(s16 == scales).sum()} of {scales.size}"


def product(gguf, model, w, linear):
    token = gguf.metadata["tokenizer.ggml.tokens"].index("The")
    x = model["model.embed_tokens.weight"][token].astype(np.float64)
    eps = gguf.config()["rms_norm_eps"]
    n = x / np.sqrt((x * x).mean() + eps) * model["model.layers.0.input_layernorm.weight"]
    hat = dequantize(*linear)
    assert np.array_equal(hat[0, 0], (linear[0][0, 0] - np.float32(linear[1][0, 0]))
                          * linear[2][0, 0])
    yield f"token              The = {token}"
    yield "w^ [0, 0..3]       " + " ".join(short(v) for v in hat[0, :4])
    yield f"y[0] with W^       {(n * hat[0]).sum():.5f}"
    yield f"y[0] with W        {(n * w[0]).sum():.5f}"
    yield f"|Wx - W^x| / |Wx|  {np.linalg.norm(w @ n - hat @ n) / np.linalg.norm(w @ n):.5f}"


def sections(path, folder):
    gguf = Gguf(path)
    model = dict(gguf.weights())
    w = model[NAME + ".weight"]
    s, z = start_values(w)
    linear = next(values for name, *values in linears(folder) if name == NAME)
    parts = (in_gguf(gguf), first_block(gguf, w), row_order(gguf, w), fake_quantized(w, s, z),
             gradients(w, s, z), packed(w, s, z, folder, linear), product(gguf, model, w, linear))
    return ["\n".join(part) for part in parts]


def numbers(text):
    """Numbers of three or more digits, as they are written."""
    found = re.findall(r"(?<![\w.])\d[\d.]*\b(?!\w)|0x[0-9a-f]+", text)
    return {n.rstrip(".") for n in found if len(re.sub(r"\D", "", n)) >= 3}


def check(page, printed):
    """Complaints: blocks that differ, and numbers of the prose that were not printed."""
    blocks = re.findall(r"^```text\n(.*?)\n```$", page, re.S | re.M)
    complaints = [f"not on the page:\n{p}" for p in printed if p not in blocks]
    complaints += [f"not printed:\n{b}" for b in blocks if b not in printed]
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.S | re.M)
    unknown = numbers(prose) - numbers("\n".join(printed))
    return complaints + [f"numbers in the text that are not printed: {sorted(unknown)}"] * bool(
        unknown)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", help="SmolLM2-135M-Instruct in Q4_1")
    parser.add_argument("folder", type=pathlib.Path, help="its 2-bit min-max quantization")
    parser.add_argument("--check", type=pathlib.Path, metavar="PAGE", help="the page to compare")
    args = parser.parse_args()
    printed = sections(args.gguf, args.folder)
    if not args.check:
        print("\n\n".join(printed))
        return
    complaints = check(args.check.read_text(), printed)
    sys.exit("\n".join(complaints) if complaints else 0)


if __name__ == "__main__":
    main()
