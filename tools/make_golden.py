#!/usr/bin/env python3
"""Write the golden values of tests/golden (what each file holds is said in its README.md).

Inputs are random f32 numbers of a fixed seed. Results and gradients are computed in double
precision and stored as f32, so that they do not depend on the CPU; the same in f32 is computed
beside them and its distance printed, as a measure for tolerances. The block and the decoder are
checked against transformers, the closed gradient of the quantizer against autograd, gradients of
the scales of a whole model against central differences, its packed folder with gptq_reader.
"""
import argparse
import importlib
import json
import math
import pathlib
from collections import namedtuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoConfig

import gptq_reader
from torch_block import (HEAD_NORMS, NORMS, Dequantize, FakeQuant, Shape, block, decoder, fake_quant,
                         least_scale, linear_sizes, rope_tables)

BLOCK = Shape(C=24, H=3, Hkv=1, D=8, F=40, eps=1e-5, theta=1e4)
TIED = BLOCK._replace(F=16)
UNTIED = Shape(C=24, H=4, Hkv=2, D=8, F=16, eps=1e-6, theta=5e5)  # H * D is not C
B, T, LAYERS, VOCAB = 2, 13, 2, 50
BITS, GROUP = 2, 8
E2E = Shape(C=64, H=4, Hkv=2, D=16, F=32, eps=1e-5, theta=1e4)  # N and K suit GPTQ's 32 fields
E2E_T, E2E_VOCAB, E2E_GROUP, TOP = 24, 80, 32, 8
# What a family has besides Llama's block: model_type, keys of its configuration, linears with a
# bias, norms of heads.
Family = namedtuple("Family", "model_type keys biased head_norms", defaults=({}, (), ()))
LLAMA = Family("llama")
QKV = tuple(f"self_attn.{name}_proj" for name in "qkv")
BIASED = Family("llama", {"attention_bias": True, "mlp_bias": True}, tuple(linear_sizes(BLOCK)))
QWEN2 = Family("qwen2", {}, QKV)
QWEN3 = Family("qwen3", {}, (), HEAD_NORMS)
QWEN3_SHAPE = Shape(C=16, H=4, Hkv=2, D=8, F=16, eps=1e-6, theta=1e6)  # H * D is not C
LOSSES = ("ce", "kl", "kl_t2", "mix", "ce_mask", "kl_mask", "top")


def random_weights(shape, prefix="", family=LLAMA):
    """Weights of one block; norms near 1, linears so large that attention is not flat."""
    weights = {prefix + name + ".weight": torch.randn(N, K) * 1.5 * K**-0.5
               for name, (N, K) in linear_sizes(shape).items()}
    for name in NORMS:
        weights[prefix + name + ".weight"] = 1 + 0.2 * torch.randn(shape.C)
    for name in family.biased:
        weights[prefix + name + ".bias"] = 0.5 * torch.randn(linear_sizes(shape)[name][0])
    for name in family.head_norms:
        weights[prefix + name + ".weight"] = 1 + 0.2 * torch.randn(shape.D)
    return weights


def random_stream(shape):
    """Activations [B, T, C] whose first token is far larger than the others."""
    x = torch.randn(B, T, shape.C)
    x[:, 0] *= 20
    return x


def min_max_grid(w, bits, group):
    """Scales and zeros [N, K/group] of a range widened to contain 0; the zeros are whole."""
    low, high = w.view(w.shape[0], -1, group).aminmax(dim=-1)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-4)
    return scale, (-low / scale).round().clamp(0, 2**bits - 1)


def trained_grid(w, bits, group):
    """A min-max grid as training might leave it: scales that clip, zeros that are not whole."""
    scale, zero = min_max_grid(w, bits, group)
    scale.view(-1)[::3] *= 0.5
    zero += 0.4 * (2 * torch.rand_like(zero) - 1)
    zero.view(-1)[::11] = -0.8
    zero.view(-1)[5::11] = 2**bits + 0.7
    return scale, zero


def check_no_ties(ratio):
    """Rounding must not depend on how ratio was computed: keep away from halves."""
    distance = (ratio - ratio.floor() - 0.5).abs().min().item()
    assert distance > 1e-5, f"a value lies {distance:.1e} from a tie: choose another seed"


def in_both_precisions(compute, inputs):
    """compute(inputs) in double, stored as f32; prints how far the same in f32 is from it."""
    exact, single = (compute({k: t.detach().to(dtype) if t.is_floating_point() else t
                              for k, t in inputs.items()})
                     for dtype in (torch.float64, torch.float32))
    far = {name: ((single[name] - t).abs().max() / t.abs().max()).item()
           for name, t in exact.items()}
    worst = max(far, key=far.get)
    print(f"  f32 differs by at most {far[worst]:.1e} of the largest value ({worst})")
    return {name: t.detach().float() for name, t in exact.items()}


def gradients(loss, prefix, leaves):
    """Gradients of a scalar with respect to named leaves."""
    values = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)
    return dict(zip((prefix + name for name in leaves), values))


def write(path, tensors, **sizes):
    """Write a safetensors file; its one metadata entry says the sizes (several would have no
    fixed order in the file)."""
    tensors = {name: t.contiguous() for name, t in tensors.items()}
    save_file(tensors, path, {"sizes": json.dumps(sizes)} if sizes else {"format": "pt"})
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def model_config(shape, tied, vocab=VOCAB, family=LLAMA):
    return AutoConfig.for_model(
        family.model_type, **family.keys, hidden_size=shape.C, num_attention_heads=shape.H, num_key_value_heads=shape.Hkv,
        head_dim=shape.D, intermediate_size=shape.F, rms_norm_eps=shape.eps, vocab_size=vocab,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        num_hidden_layers=LAYERS, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=tied, attn_implementation="sdpa")


def theirs(config, kind):
    """transformers' class of a kind, such as "DecoderLayer", for this family."""
    name = config.model_type
    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    return getattr(module, name.capitalize() + kind)


E2E_CONFIG = model_config(E2E, True, E2E_VOCAB)


def check_same(what, ours, theirs):
    """Stop unless both agree to f32 rounding (transformers computes norms in f32)."""
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert difference < 2e-6, f"{what}: differs by {difference:.1e} of the largest value"


def quantizer_golden(bits):
    """One quantizer alone: forward, and gradients for a given dy."""
    w = torch.randn(6, 24)
    scale, zero = trained_grid(w, bits, GROUP)
    scale[1, 0], scale[2, 1] = 2e-5, -0.1  # below the smallest: clamped to it
    w[1, 0:8] *= 1e-4
    scale[3, 0], zero[3, 0] = 0.25, 1.0
    w[3, 0:8] = 0.25 * torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5, -2.5, 0.0, 1e4])  # exact ties
    inputs = {"w": w, "scale": scale, "zero_point": zero, "dy": torch.randn_like(w)}
    ratio = w.view(6, 3, GROUP) / scale.clamp(min=least_scale(bits)).unsqueeze(-1)
    check_no_ties(torch.cat((ratio[:3].flatten(), ratio[3, 1:].flatten(), ratio[4:].flatten())))

    def compute(v):
        leaves = {k: v[k].requires_grad_() for k in ("w", "scale", "zero_point")}
        y = fake_quant(*leaves.values(), bits)
        closed = FakeQuant.apply(*leaves.values(), bits)
        out = gradients((y * v["dy"]).sum(), "grad.", leaves)
        for name, value in gradients((closed * v["dy"]).sum(), "grad.", leaves).items():
            check_same(f"{bits} bits, closed {name}", value, out[name])
        edgeless = (fake_quant(*leaves.values(), bits, edges_inside=False) * v["dy"]).sum()
        return {"y": y, **out, **gradients(edgeless, "open.grad.", leaves)}

    return {**inputs, **in_both_precisions(compute, inputs)}


def super_golden():
    """The quantizer of a super-block's groups: zero points are real numbers."""
    bits, group = 4, 32
    w = torch.randn(6, 96)
    scale, zero = min_max_grid(w, bits, group)
    scale.view(-1)[::3] *= 0.5
    zero += torch.rand_like(zero) - 0.5
    zero.view(-1)[::5] = 0
    inputs = {"w": w, "scale": scale, "zero_point": zero, "dy": torch.randn_like(w)}
    check_no_ties(w.view(6, 3, group) / scale.unsqueeze(-1) + zero.unsqueeze(-1))

    def compute(v):
        leaves = {k: v[k].requires_grad_() for k in ("w", "scale", "zero_point")}
        out = {}
        for prefix, inside in (("", True), ("open.", False)):
            y = fake_quant(*leaves.values(), bits, edges_inside=inside, real_zeros=True)
            out |= {"y": y, **gradients((y * v["dy"]).sum(), prefix + "grad.", leaves)}
        return out

    return {**inputs, **in_both_precisions(compute, inputs)}


def block_golden(family=LLAMA):
    """A block with its full-precision weights: forward, and gradients for a given dy."""
    inputs = {"x": random_stream(BLOCK), "dy": torch.randn(B, T, BLOCK.C),
              **random_weights(BLOCK, family=family)}

    def compute(v):
        leaves = {k: t.requires_grad_() for k, t in v.items() if k != "dy"}
        y = block(v["x"], v, BLOCK, rope_tables(T, BLOCK, v["x"].dtype))
        return {"y": y, **gradients((y * v["dy"]).sum(), "grad.", leaves)}

    outputs = in_both_precisions(compute, inputs)
    config = model_config(BLOCK, True, family=family)
    layer = theirs(config, "DecoderLayer")(config, 0).double()
    layer.load_state_dict({k: t.double() for k, t in inputs.items() if k not in ("x", "dy")})
    x = inputs["x"].double().requires_grad_()
    angles = theirs(config, "RotaryEmbedding")(config)(x, torch.arange(T)[None])
    y = layer(x, position_embeddings=angles)
    y = y[0] if isinstance(y, tuple) else y
    y.backward(inputs["dy"].double())
    check_same("block", outputs["y"], y)
    check_same("block, dx", outputs["grad.x"], x.grad)
    for name, parameter in layer.named_parameters():
        check_same("block, " + name, outputs["grad." + name], parameter.grad)
    return {**inputs, **outputs}


def relative_loss(y, target):
    """Squared error of each token relative to the token's own size, mean over tokens."""
    size = target.square().sum(-1) + 1e-6 * target.shape[-1]
    return ((y - target).square().sum(-1) / size).mean()


def fake_block_golden():
    """A block with fake-quantized linears: two losses against a target, and their gradients."""
    inputs = {"x": random_stream(BLOCK), **random_weights(BLOCK)}
    teacher_x = inputs["x"] + 0.05 * torch.randn(B, T, BLOCK.C)
    exact = {name: t.double() for name, t in inputs.items()}
    tables = rope_tables(T, BLOCK, torch.float64)
    inputs["target"] = block(teacher_x.double(), exact, BLOCK, tables).float()
    for name in linear_sizes(BLOCK):
        w = inputs[name + ".weight"]
        scale, zero = trained_grid(w, BITS, GROUP)
        inputs[name + ".scale"], inputs[name + ".zero_point"] = scale, zero
        check_no_ties(w.view(w.shape[0], -1, GROUP) / scale.unsqueeze(-1))

    def compute(v):
        leaves = {k: t.requires_grad_() for k, t in v.items() if k not in ("x", "target")}
        effective = {name + ".weight": fake_quant(v[name + ".weight"], v[name + ".scale"],
                                                  v[name + ".zero_point"], BITS)
                     for name in linear_sizes(BLOCK)}
        y = block(v["x"], v | effective, BLOCK, rope_tables(T, BLOCK, v["x"].dtype))
        out = {"y": y}
        losses = {"relative": relative_loss(y, v["target"]), "mse": F.mse_loss(y, v["target"])}
        for name, loss in losses.items():
            out[name + ".loss"] = loss
            out.update(gradients(loss, name + ".grad.", leaves))
        return out

    return {**inputs, **in_both_precisions(compute, inputs)}


def model_logits(tokens, weights, shape):
    """Tokens [B, T] -> logits [B, T, V], with all weights under their names."""
    def layer(prefix):
        own = {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}
        return lambda x, tables: block(x, own, shape, tables)

    layers = [layer(f"model.layers.{i}.") for i in range(LAYERS)]
    return decoder(tokens, weights, layers, shape)


def check_logits(what, logits, tokens, weights, config):
    """Stop unless transformers computes the same logits."""
    model = theirs(config, "ForCausalLM")(config).double()
    model.load_state_dict(weights, strict=not config.tie_word_embeddings)
    check_same(what, logits, model(input_ids=tokens.long()).logits)


def write_model(folder, weights, config, **more):
    """A Hugging Face folder without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = config.to_diff_dict() | {"architectures": [theirs(config, "ForCausalLM").__name__],
                                    "dtype": "float32"}
    keys = {k: v for k, v in keys.items() if k != "transformers_version"} | more
    (folder / "config.json").write_text(json.dumps(keys, indent=2, sort_keys=True) + "\n")
    write(folder / "model.safetensors", weights)


def decoder_golden(folder, shape, tied, family=LLAMA):
    """A whole model as a Hugging Face folder, with logits, losses and gradients beside it."""
    weights = {"model.embed_tokens.weight": torch.randn(VOCAB, shape.C),
               "model.norm.weight": 1 + 0.2 * torch.randn(shape.C)}
    for i in range(LAYERS):
        weights.update(random_weights(shape, f"model.layers.{i}.", family))
    if not tied:
        weights["lm_head.weight"] = torch.randn(VOCAB, shape.C) * 0.5
    inputs = {"tokens": torch.randint(VOCAB, (B, T), dtype=torch.int32),
              "teacher_logits": 3 * torch.randn(B, T, VOCAB)}
    last_layer = f"layers.{LAYERS - 1}."  # its gradients are left out: files stay small

    def compute(v):
        leaves = {k: t.requires_grad_() for k, t in v.items() if k in weights}
        logits = model_logits(v["tokens"], leaves, shape)
        ahead = logits[:, :-1].flatten(0, 1).log_softmax(-1)
        teacher = v["teacher_logits"][:, :-1].flatten(0, 1).log_softmax(-1)
        cross_entropy = F.nll_loss(ahead, v["tokens"][:, 1:].flatten().long())
        kl = F.kl_div(ahead, teacher, reduction="batchmean", log_target=True)
        return {"logits": logits, "cross_entropy": cross_entropy, "kl": kl,
                "kl.grad.logits": torch.autograd.grad(kl, logits, retain_graph=True)[0],
                **gradients(cross_entropy, "cross_entropy.grad.",
                            {k: t for k, t in leaves.items() if last_layer not in k})}

    outputs = in_both_precisions(compute, inputs | weights)
    config = model_config(shape, tied, family=family)
    check_logits(folder.name, outputs["logits"], inputs["tokens"], weights, config)
    write_model(folder, weights, config)
    write(folder / "expected.safetensors", inputs | outputs)


def pack(values, bits):
    """Whole numbers [rows, n] -> words [rows, n * bits / 32]: each row a stream of bits."""
    field = np.unpackbits(values.numpy().astype(np.uint8)[..., None], axis=-1, bitorder="little")
    stream = field[..., :bits].reshape(len(values), -1)
    return torch.from_numpy(np.packbits(stream, axis=-1, bitorder="little").view(np.int32))


def frozen_codes(w, bits):
    """Codes [N, K], zeros and scales [N, K/g] of w; the scales clip a little and are halves."""
    scale, zero = min_max_grid(w, bits, E2E_GROUP)
    scale = (scale * (0.7 + 0.3 * torch.rand_like(scale))).half().float()
    group = w.view(*scale.shape, E2E_GROUP)
    code = (group / scale.unsqueeze(-1)).round() + zero.unsqueeze(-1)
    return code.clamp(0, 2**bits - 1).view_as(w), zero, scale


def student_weights(frozen, scales, others):
    """All weights of a quantized model: (q - z) * s for each linear, the others as they are."""
    weights = dict(others)
    for name, s in scales.items():
        q, z, _ = frozen[name]
        level = (q.view(*s.shape, E2E_GROUP) - z.unsqueeze(-1)).to(torch.int8)
        weights[name + ".weight"] = Dequantize.apply(s, level, s.dtype)
    return weights


def cross_entropy(logits, tokens, mask):
    """Next-token cross-entropy, mean over the targets that count; the first token is no target."""
    counts = mask[:, 1:].bool()
    return F.cross_entropy(logits[:, :-1][counts], tokens[:, 1:][counts].long())


def divergence(logits, teacher, mask, temperature=1):
    """temperature^2 * KL(softmax(teacher / temperature), softmax(logits / temperature))."""
    counts = mask[:, 1:].bool()
    log_p, log_q = ((t[:, :-1][counts] / temperature).log_softmax(-1) for t in (logits, teacher))
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(-1).mean()


def with_rest(log_p, index):
    """Log-probabilities at index and, behind them, that of all others together."""
    others = log_p.scatter(-1, index, -torch.inf)
    return torch.cat((log_p.gather(-1, index), others.logsumexp(-1, keepdim=True)), dim=-1)


def top_divergence(logits, teacher):
    """KL over the teacher's TOP most likely tokens and one bucket for all others."""
    index = teacher[:, :-1].topk(TOP).indices
    log_q, log_p = (with_rest(t[:, :-1].log_softmax(-1), index) for t in (teacher, logits))
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean()


def e2e_losses(logits, teacher, tokens, mask):
    everything = torch.ones_like(mask)
    ce = cross_entropy(logits, tokens, everything)
    kl = divergence(logits, teacher, everything)
    return {"ce": ce, "kl": kl, "kl_t2": divergence(logits, teacher, everything, 2),
            "mix": 0.7 * kl + 0.3 * ce, "ce_mask": cross_entropy(logits, tokens, mask),
            "kl_mask": divergence(logits, teacher, mask), "top": top_divergence(logits, teacher)}


def check_differences(losses, scales, names, grads):
    """Compare gradients with central differences, at one scale of each linear, in double."""
    h, checked = 1e-5, 0
    for i, (name, s) in enumerate(scales.items()):
        at = 7 * i % s.numel()
        sides = []
        for sign in (1, -1):
            moved = s.detach().clone()
            moved.view(-1)[at] += sign * h
            sides.append(losses(scales | {name: moved}))
        for loss in names:
            slope = ((sides[0][loss] - sides[1][loss]) / (2 * h)).item()
            exact = grads[f"{loss}.grad.{name}.scale"]
            error = abs(slope - exact.view(-1)[at].item()) / exact.abs().max().item()
            assert error < 1e-6, f"{loss}, {name}: differs from the difference by {error:.1e}"
            checked += 1
    print(f"  {checked} gradients agree with central differences")


def train_scales(loss, scales, steps):
    """AdamW on all scales behind a clip of their global norm: results of the first and last step."""
    scales = {name: s.detach().clone().requires_grad_() for name, s in scales.items()}
    optimizer = torch.optim.AdamW(scales.values(), lr=1e-3, weight_decay=0)
    out, losses, norms = {}, [], []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        losses.append(loss(scales))
        losses[-1].backward()
        norms.append(torch.nn.utils.clip_grad_norm_(scales.values(), 0.3))
        assert norms[-1] > 0.3, "nothing to clip"
        optimizer.step()
        if step in (1, steps):
            out |= {f"adamw{step}.{name}.scale": s.detach().clone() for name, s in scales.items()}
    return out | {"adamw.loss": torch.stack(losses), "adamw.norm": torch.stack(norms)}


def write_student(folder, frozen, others, bits):
    """The quantized model in GPTQ's layout, version 2; it is read back bit by bit."""
    tensors = dict(others)
    for name, (q, z, s) in frozen.items():
        tensors |= {name + ".qweight": pack(q, bits).T, name + ".qzeros": pack(z.T, bits),
                    name + ".scales": s.T.half(),
                    name + ".g_idx": (torch.arange(q.shape[1]) // E2E_GROUP).int()}
    quantization = {
        "quant_method": "gptq", "method": "gptq", "bits": bits, "group_size": E2E_GROUP,
        "sym": False, "desc_act": False, "lm_head": False, "checkpoint_format": "gptq_v2",
        "format": "gptq_v2", "pack_dtype": "int32", "true_sequential": True}
    write_model(folder, tensors, E2E_CONFIG,
                quantization_config=quantization)
    (folder / "quantize_config.json").write_text(json.dumps(quantization, indent=2) + "\n")
    scales = {name: s for name, (_, _, s) in frozen.items()}
    expected = student_weights(frozen, scales, {})
    found = {name + ".weight": gptq_reader.dequantize(*parts)
             for name, *parts in gptq_reader.linears(folder)}
    assert found.keys() == expected.keys()
    assert all((found[name] == w.numpy()).all() for name, w in expected.items()), "packing"


def e2e_teacher():
    """Full-precision weights whose predictions are neither flat nor sure."""
    weights = {"model.embed_tokens.weight": 0.25 * torch.randn(E2E_VOCAB, E2E.C),
               "model.norm.weight": 1 + 0.2 * torch.randn(E2E.C)}
    for i in range(LAYERS):
        weights.update(random_weights(E2E, f"model.layers.{i}."))
    return weights


def e2e_data():
    """Windows, and a mask like that of a chat: a prompt, holes, and unequal windows."""
    mask = torch.ones(B, E2E_T, dtype=torch.uint8)
    mask[0, :9] = mask[0, -1] = mask[1, 1:4] = mask[1, 12:14] = 0
    return {"tokens": torch.randint(E2E_VOCAB, (B, E2E_T), dtype=torch.int32), "mask": mask,
            "mask_ones": torch.ones_like(mask)}


def e2e_golden(folder, teacher, data, bits, names, steps):
    """A quantized model; the named losses with their gradients, and some steps of training on kl."""
    frozen = {name.removesuffix(".weight"): frozen_codes(t, bits)
              for name, t in teacher.items() if "proj" in name}
    others = {name: t + 0.05 * torch.randn_like(t) if "norm" in name else t
              for name, t in teacher.items() if "proj" not in name}
    start = {name: s for name, (_, _, s) in frozen.items()}

    def compute(v):
        fixed = {k: v[k] for k in others}
        scales = {name: v[name + ".scale"].requires_grad_() for name in frozen}
        leaves = {k: t.requires_grad_() for k, t in fixed.items() if "norm" in k}
        leaves |= {name + ".scale": t for name, t in scales.items()}
        aim = model_logits(v["tokens"], {k: v["teacher." + k] for k in teacher}, E2E)

        def losses(scales):
            logits = model_logits(v["tokens"], student_weights(frozen, scales, fixed), E2E)
            found = e2e_losses(logits, aim, v["tokens"], v["mask"])
            return {"logits": logits} | {k: found[k] for k in names}

        out = losses(scales) | {"teacher_logits": aim}
        for name in names:
            out |= gradients(out[name], name + ".grad.", leaves)
        if aim.dtype == torch.float64:
            with torch.no_grad():
                check_differences(losses, scales, names, out)
        return out | (train_scales(lambda s: losses(s)["kl"], scales, steps) if steps else {})

    inputs = data | others | {name + ".scale": s for name, s in start.items()}
    inputs |= {"teacher." + name: t for name, t in teacher.items()}
    outputs = in_both_precisions(compute, inputs)
    for what, weights in (("logits", student_weights(frozen, start, others)),
                          ("teacher_logits", teacher)):
        check_logits(what, outputs[what], data["tokens"], weights, E2E_CONFIG)
    best = outputs["teacher_logits"].sort(descending=True)
    assert (best.values[..., TOP - 1] - best.values[..., TOP]).min() > 1e-3, "a tie: another seed"
    slopes = torch.cat([outputs[f"kl.grad.{name}.scale"].flatten() for name in frozen]).abs()
    assert slopes.min() > 5e-5 * slopes.max(), "AdamW would hang on rounding: choose another seed"
    if not steps:  # one copy of the largest tensors is enough
        outputs = {name: t for name, t in outputs.items() if "logits" not in name}
    write_student(folder, frozen, others, bits)
    write(folder / "expected.safetensors",
          data | {"top.tokens": best.indices[..., :TOP].int()} | outputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("-o", "--output", type=pathlib.Path, default=root / "tests/golden")
    out = parser.parse_args().output
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(20)

    sizes = BLOCK._asdict() | {"B": B, "T": T}
    for bits in (2, 3, 4, 8):
        write(out / f"quantizer_w{bits}.safetensors", quantizer_golden(bits), bits=bits, g=GROUP)
    write(out / "block.safetensors", block_golden(), **sizes)
    write(out / "block_fake.safetensors", fake_block_golden(), bits=BITS, g=GROUP, **sizes)
    decoder_golden(out / "decoder_tied", TIED, True)
    decoder_golden(out / "decoder_untied", UNTIED, False)

    torch.manual_seed(23)
    write(out / "block_qwen2.safetensors", block_golden(QWEN2), **sizes)
    write(out / "block_qwen3.safetensors", block_golden(QWEN3), **sizes)
    decoder_golden(out / "decoder_qwen2", TIED, True, QWEN2)
    decoder_golden(out / "decoder_qwen3", QWEN3_SHAPE, False, QWEN3)
    decoder_golden(out / "decoder_biased", TIED, True, BIASED)

    torch.manual_seed(27)
    teacher, data = e2e_teacher(), e2e_data()
    write_model(out / "e2e/teacher", teacher, E2E_CONFIG)
    e2e_golden(out / "e2e/w2", teacher, data, 2, LOSSES, 3)
    e2e_golden(out / "e2e/w3", teacher, data, 3, ("ce", "kl"), 0)

    torch.manual_seed(31)
    write(out / "quantizer_super.safetensors", super_golden(), bits=4, g=32)


if __name__ == "__main__":
    main()
