#!/usr/bin/env python3
"""Write one of our quantized folders again in the layout of another program.

  repack.py FROM TO LAYOUT [--scales F16|F32] [--older] [--auto-round] [--act-order] [--plant]
                           [--meta]

  eqat    EfficientQAT's: whole codes in a word, zero points as they are, no settings
  gptq    version 1: a stream of bits, zero points less one
  gptq2   version 2: zero points as they are
  awq     4 bits along the rows' numbers, the fields of a word in AWQ's order
  ct      compressed-tensors, pack-quantized: rows of one stream of bits
  ct-old  the same as before 2026: whole codes in a word
  dense   weights in F32

--older puts the settings and the weights into the files of old AutoGPTQ folders, --auto-round names
the layout as auto-round does, --act-order lets the groups of each linear take turns (another
model), --plant changes one code, --meta names GPTQModel as the writer. Prints how many zero points are 0.
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))
import gptq_reader

TYPES = {"int32": "I32", "uint32": "I32", "int64": "I64", "float16": "F16", "float32": "F32"}
AUTO_ROUND = {"gptq": "auto_round:auto_gptq", "gptq2": "auto_round:gptqmodel",
              "awq": "auto_round:auto_awq"}


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


def shuffled(codes, bits):
    """Rows of fields, eight in a word in AWQ's order."""
    return stream(codes.reshape(len(codes), -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]]
                  .reshape(codes.shape), bits)


def gptq(pack, pack_zeros):
    def tensors(codes, zeros, scales, order, bits):
        return {"qweight": pack(codes, bits).T, "qzeros": pack_zeros(zeros.T, bits),
                "scales": scales.T, "g_idx": order.astype(np.int32)}
    return tensors


def awq(codes, zeros, scales, order, bits):
    return {"qweight": shuffled(codes.T, bits), "qzeros": shuffled(zeros.T, bits),
            "scales": scales.T}


def compressed(pack):
    def tensors(codes, zeros, scales, order, bits):
        own = {"weight_packed": pack(codes, bits), "weight_scale": scales,
               "weight_shape": np.array(codes.shape, np.int64)}
        if np.any(zeros != 2 ** (bits - 1)):
            own["weight_zero_point"] = pack(zeros.T, bits).T
        if np.any(np.diff(order) < 0):
            own["weight_g_idx"] = order.astype(np.int32)
        return own
    return tensors


def dense(codes, zeros, scales, order, bits):
    return {"weight": gptq_reader.dequantize(codes, zeros, scales.astype(np.float32), order)}


LAYOUTS = {"eqat": gptq(padded, padded), "gptq": gptq(stream, less_one),
           "gptq2": gptq(stream, stream), "awq": awq, "ct": compressed(stream),
           "ct-old": compressed(padded), "dense": dense}


def save(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": TYPES[t.dtype.name], "shape": t.shape,
                        "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    data = b"".join(np.ascontiguousarray(t).tobytes() for t in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def scheme(bits, group, symmetric, targets):
    return {"targets": targets, "input_activations": None, "output_activations": None,
            "weights": {"num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False,
                        "strategy": "channel" if group == -1 else "group",
                        "group_size": None if group == -1 else group}}


def compressed_settings(settings, grids):
    """One group of modules for all that are alike, the largest by class, others by name."""
    kinds = sorted(set(grids.values()), key=lambda g: -list(grids.values()).count(g))
    groups = {f"group_{i}": scheme(*kind, [n for n in grids if grids[n] == kind] if i else
                                   ["Linear"]) for i, kind in enumerate(kinds)}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized",
            "quantization_status": "compressed", "ignore": ["lm_head"], "config_groups": groups}


def settings_for(args, settings, grids):
    kept = {k: v for k, v in settings.items()
            if k in ("bits", "group_size", "sym", "desc_act", "dynamic")}
    if args.layout in ("eqat", "dense"):
        return None
    if args.layout.startswith("ct"):
        return compressed_settings(settings, grids)
    if args.auto_round:
        return {**kept, "quant_method": "auto-round", "packing_format": AUTO_ROUND[args.layout]}
    if args.layout == "awq":
        return {"quant_method": "awq", "bits": kept["bits"], "group_size": kept["group_size"],
                "version": "gemm", "zero_point": True, "modules_to_not_convert": None}
    if args.meta:
        kept["meta"] = {"quantizer": ["gptqmodel:7.7.0"]}
    return {**kept, "desc_act": args.act_order, "quant_method": "gptq",
            "checkpoint_format": "gptq" if args.layout == "gptq" else "gptq_v2"}


def write_settings(args, config, settings):
    if settings and args.older:
        del settings["quant_method"]
        (args.to / "quantize_config.json").write_text(json.dumps(settings))
    elif settings:
        config["quantization_config"] = settings
    (args.to / "config.json").write_text(json.dumps(config))


def repack(args, settings):
    """Tensors in the new layout; bits, group and grid of each linear."""
    tensors = {k: t for k, t in gptq_reader.tensors(args.source / "model.safetensors")}
    nothing, grids = 0, {}
    for name, codes, zeros, scales, order in gptq_reader.linears(args.source):
        own = gptq_reader.settings(settings, name)
        if args.plant:
            codes[0, 0] ^= 1
            args.plant = False
        if args.act_order:
            order = (np.arange(len(order)) * 5 + 1) % zeros.shape[1]
        for part in ("qweight", "qzeros", "scales", "g_idx"):
            del tensors[f"{name}.{part}"]
        new = LAYOUTS[args.layout](codes, zeros, scales.astype(args.scales), order, own["bits"])
        tensors.update((f"{name}.{part}", t) for part, t in new.items())
        grids[name] = own["bits"], own["group_size"], "weight_zero_point" not in new
        nothing += int((zeros == 0).sum())
    print(nothing)
    return tensors, grids


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("to", type=pathlib.Path)
    parser.add_argument("layout", choices=LAYOUTS)
    parser.add_argument("--scales", choices=["F16", "F32"], default="F16")
    for flag in ("older", "auto-round", "act-order", "plant", "meta"):
        parser.add_argument("--" + flag, action="store_true")
    args = parser.parse_args()
    args.scales = {"F16": np.float16, "F32": np.float32}[args.scales]
    args.to.mkdir()
    for file in args.source.glob("tokenizer*"):
        shutil.copy(file, args.to)
    config = json.loads((args.source / "config.json").read_text())
    settings = config.pop("quantization_config")
    name = f"gptq_model-{settings['bits']}bit-{settings['group_size']}g" if args.older else "model"
    tensors, grids = repack(args, settings)
    save(args.to / (name + ".safetensors"), tensors)
    write_settings(args, config, settings_for(args, settings, grids))


if __name__ == "__main__":
    main()
