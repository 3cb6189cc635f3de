#!/usr/bin/env python3
"""Write one of our quantized folders again in the layout of another program.

  repack.py FROM TO eqat|gptq [--scales F16|F32] [--older] [--act-order] [--plant]

eqat is EfficientQAT's: whole codes in a word, zero points as they are, no settings. gptq is format
1: a stream of bits, zero points less one. --older puts the settings and the weights into the files
of old AutoGPTQ folders, --act-order lets the groups of the last linear take turns, --plant changes
one code. Prints how many zero points are 0.
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import gptq_reader

TYPES = {"int32": "I32", "uint32": "I32", "float16": "F16", "float32": "F32"}


def padded(codes, bits):
    """Rows of fields, floor(32 / bits) in a word of which the rest is empty."""
    fields = 32 // bits
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % fields))).astype(np.uint32)
    codes = codes.reshape(len(codes), -1, fields)
    return np.bitwise_or.reduce(codes << (bits * np.arange(fields, dtype=np.uint32)), 2)


def stream(codes, bits):
    """Rows of fields as one stream of bits each."""
    low = np.unpackbits(codes.astype(np.uint8)[..., None], 2, bitorder="little")[..., :bits]
    return np.packbits(low.reshape(len(codes), -1), 1, bitorder="little").view("<u4")


def less_one(zeros, bits):
    """The words of format 1: less a one in each field; at 3 bits each field wraps by itself."""
    if bits == 3:
        return stream((zeros + 7) % 8, bits)
    return stream(zeros, bits) - np.uint32((2**32 - 1) // (2**bits - 1))


def save(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": TYPES[t.dtype.name], "shape": t.shape,
                        "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    data = b"".join(np.ascontiguousarray(t).tobytes() for t in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def settings_of(config, layout):
    settings = config.pop("quantization_config")
    kept = {k: v for k, v in settings.items()
            if k in ("bits", "group_size", "sym", "desc_act", "dynamic")}
    return {**kept, "checkpoint_format": "gptq"} if layout == "gptq" else None


def write_settings(args, config, settings):
    if settings and args.older:
        (args.to / "quantize_config.json").write_text(json.dumps(settings))
    elif settings:
        config["quantization_config"] = {**settings, "quant_method": "gptq"}
    (args.to / "config.json").write_text(json.dumps(config))


def repack(args, settings):
    tensors = {k: t for k, t in gptq_reader.tensors(args.source / "model.safetensors")}
    nothing = 0
    for name, codes, zeros, scales, order in gptq_reader.linears(args.source):
        bits = gptq_reader.settings(settings, name)["bits"]
        if args.plant:
            codes[0, 0] ^= 1
            args.plant = False
        pack = padded if args.layout == "eqat" else stream
        packed = padded(zeros.T, bits) if args.layout == "eqat" else less_one(zeros.T, bits)
        tensors[name + ".qweight"], tensors[name + ".qzeros"] = pack(codes, bits).T, packed
        tensors[name + ".scales"] = scales.T.astype(args.scales)
        nothing += int((zeros == 0).sum())
    if args.act_order:
        tensors[name + ".g_idx"] = order % (zeros.shape[1] - 1)
    print(nothing)
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("to", type=pathlib.Path)
    parser.add_argument("layout", choices=["eqat", "gptq"])
    parser.add_argument("--scales", choices=["F16", "F32"], default="F16")
    for flag in ("older", "act-order", "plant"):
        parser.add_argument("--" + flag, action="store_true")
    args = parser.parse_args()
    args.scales = {"F16": np.float16, "F32": np.float32}[args.scales]
    args.to.mkdir()
    for file in args.source.glob("tokenizer*"):
        shutil.copy(file, args.to)
    config = json.loads((args.source / "config.json").read_text())
    settings = config["quantization_config"]
    write_settings(args, config, settings_of(config, args.layout))
    name = f"gptq_model-{settings['bits']}bit-{settings['group_size']}g" if args.older else "model"
    save(args.to / (name + ".safetensors"), repack(args, settings))


if __name__ == "__main__":
    main()
