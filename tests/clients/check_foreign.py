#!/usr/bin/env python3
"""Folders that other programs pack or read: our logits are theirs, in f32.

  check_foreign.py EQAT      run in the environment of requirements/clients.txt

compressed-tensors packs a random model in all bits, grids and groups, and transformers reads it;
GPTQModel reads what repack.py writes in the layouts of GPTQ, with activation order too, and AWQ,
which compressed-tensors converts as well. Their weights are unpacked by their own functions and
multiplied in f32, because their kernels round to 16 bits. The largest difference may be 1e-4 of
the largest logit: both sum in f32, in another order.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.entrypoints.convert.converters import AutoAWQConverter
from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig,
                                             QuantizationScheme, apply_quantization_config)
from compressed_tensors.compressors import PackedQuantizationCompressor
from compressed_tensors.quantization.utils import calculate_qparams, is_module_quantized
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

CLI = pathlib.Path(__file__).parents[1] / "cli"
IDS = [3, 7, 200, 45, 90, 12, 33, 250]
SHARE = 1e-4


def run(*command):
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)


def our_logits(eqat, folder):
    out = folder.with_suffix(".npy")
    run(eqat, "logits", folder, "--tokens", ",".join(map(str, IDS)), "-o", out, "--precision",
        "f32")
    return np.load(out).reshape(len(IDS), -1)


def logits_of(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([IDS])).logits[0].float().numpy()


def make_compressed(source, folder, bits, symmetric, group):
    """Min-max quantization, packed and written by compressed-tensors."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    strategy = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **strategy)
    apply_quantization_config(model, QuantizationConfig(
        config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=args)},
        ignore=["lm_head"]))
    for module in filter(is_module_quantized, model.modules()):
        w = module.weight.detach()
        w = w.reshape(len(w), -1, group or w.shape[1])
        scale, zero = calculate_qparams(w.amin(2), w.amax(2), args)
        module.weight_scale.data = scale
        if not symmetric:
            module.weight_zero_point.data = zero
    compressor = ModelCompressor.from_pretrained_model(model, "pack-quantized")
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)


def plain_model(folder, weights):
    """A model in f32 with the tensors of the folder and these weights of linears."""
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = {k: t for k, t in load_file(folder / "model.safetensors").items()
               if k.rpartition(".")[0] not in weights}
    tensors.update((name + ".weight", w) for name, w in weights.items())
    model.load_state_dict({k: t.float() for k, t in tensors.items()})
    return model


def read_by_gptqmodel(folder):
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
    awq = "awq" in folder.name
    backend = BACKEND.TORCH_AWQ if awq else BACKEND.TORCH
    model = GPTQModel.load(str(folder), device="cpu", backend=backend, dtype=torch.float16).model
    weights = {}
    for name, m in model.named_modules():
        if hasattr(m, "qweight"):
            m.scales = m.scales.float()
            w = (dequantize_gemm(m.qweight, m.qzeros, m.scales, m.bits, m.group_size) if awq
                 else m.dequantize_weight())
            weights[name] = w.T.contiguous()
    return plain_model(folder, weights)


def decompress(folder, tensors, args):
    """compressed-tensors' own unpacking of what is under *.weight_packed."""
    scheme, weights = QuantizationScheme(targets=["Linear"], weights=args), {}
    for name in (k.removesuffix(".weight_packed") for k in tensors if k.endswith("_packed")):
        own = {k.removeprefix(name + "."): t for k, t in tensors.items()
               if k.startswith(name + ".")}
        own["weight_scale"] = own["weight_scale"].float()
        weights[name] = PackedQuantizationCompressor.decompress(own, scheme)["weight"]
    return plain_model(folder, weights)


def read_compressed(folder):
    """transformers loads it as it is; with zero points it refuses what compressed-tensors 0.20
    wrote, whose shapes it takes for wrong, so that they are unpacked before."""
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    args = QuantizationArgs(**settings["config_groups"]["group_0"]["weights"])
    if args.symmetric:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return decompress(folder, load_file(folder / "model.safetensors"), args)


def read_awq_by_compressed_tensors(folder):
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    converter = AutoAWQConverter.from_autoawq_config(settings)
    args = QuantizationArgs(num_bits=4, symmetric=False, strategy="group",
                            group_size=settings["group_size"])
    return decompress(folder, converter.process(load_file(folder / "model.safetensors")), args)


class Checks:
    def __init__(self, eqat):
        self.eqat, self.failed, self.done = eqat, 0, 0

    def compare(self, what, theirs, folder):
        ours = our_logits(self.eqat, folder)
        share = float(abs(ours - theirs).max() / abs(theirs).max())
        print(f"{what}: largest difference {share:.1e} of the largest logit")
        self.done += 1
        self.failed += not share <= SHARE
        return theirs


def compressed_checks(checks, work):
    cases = [(b, s, g) for b in (2, 3, 4, 8) for s in (True, False) for g in (32, 0)]
    for bits, symmetric, group in cases:
        folder = work / f"ct-{bits}-{symmetric}-{group}"
        make_compressed(work / "m", folder, bits, symmetric, group)
        grid = "symmetric" if symmetric else "asymmetric"
        checks.compare(f"compressed-tensors, {bits} bits, {grid}, "
                       f"{f'groups of {group}' if group else 'whole rows'}",
                       logits_of(read_compressed(folder)), folder)


def repacked_checks(checks, work):
    """Version 1 is read by GPTQModel when it, or a later version, names itself as the writer."""
    for bits, layout, options in ((2, "gptq", ["--meta"]), (3, "gptq", ["--meta", "--act-order"]),
                                  (3, "gptq2", []), (4, "gptq2", ["--act-order"]),
                                  (8, "gptq2", []), (4, "awq", [])):
        source, folder = work / f"q{bits}", work / f"{layout}-{bits}"
        if not source.exists():
            run(checks.eqat, "quantize", work / "m", "-o", source, "-q", "--method", "rtn",
                "--init", "mse", "--bits", bits, "--group", 32)
        run(sys.executable, CLI / "repack.py", source, folder, layout, *options)
        checks.compare(f"GPTQModel, {layout}, {bits} bits {' '.join(options)}",
                       logits_of(read_by_gptqmodel(folder)), folder)
    theirs = logits_of(read_awq_by_compressed_tensors(folder))
    checks.compare("compressed-tensors' converter, awq", theirs, folder)
    # A wrong code is seen.
    run(sys.executable, CLI / "repack.py", work / "q4", work / "planted", "awq", "--plant")
    ours = our_logits(checks.eqat, work / "planted")
    if not abs(ours - theirs).max() > SHARE * abs(theirs).max():
        sys.exit("a wrong code is not seen")


def exported_checks(checks, work):
    """What we export. Scales of our symmetric grids have either sign, which must not matter."""
    for bits, layout, options in ((2, "compressed-tensors", ["--grid", "symmetric"]),
                                  (3, "compressed-tensors", []),
                                  (4, "compressed-tensors", ["--grid", "symmetric"]),
                                  (8, "compressed-tensors", []), (4, "awq", [])):
        source = work / f"ours-{bits}-{layout}"
        folder = work / f"{source.name}-exported"
        run(checks.eqat, "quantize", work / "m", "-o", source, "-q", "--method", "rtn", "--init",
            "mse", "--bits", bits, "--group", 32, *options)
        run(checks.eqat, "export", source, "-o", folder, "--format", layout)
        model = read_compressed(folder) if layout != "awq" else read_by_gptqmodel(folder)
        checks.compare(f"exported, {layout}, {bits} bits {' '.join(options)}", logits_of(model),
                       folder)


def main():
    checks = Checks(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        run(sys.executable, CLI / "make_model.py", work / "m", "--tokenizer")
        compressed_checks(checks, work)
        repacked_checks(checks, work)
        exported_checks(checks, work)
    print(f"{checks.done} comparisons, {checks.failed} failed")
    return 1 if checks.failed or not checks.done else 0


if __name__ == "__main__":
    sys.exit(main())
