"""A decoder of the Llama kind (also Qwen2, Qwen3), its block, the group quantizer and frozen codes in plain PyTorch.

Shared by tools/make_golden.py (in f32 and f64, where it is checked against transformers) and by
bench/peer_*.py (under bf16 autocast). Names of weights are those of Hugging Face files.
"""
from collections import namedtuple

import torch
import torch.nn.functional as F

# C hidden, H and Hkv heads and key-value heads, D head size, F MLP width.
Shape = namedtuple("Shape", "C H Hkv D F eps theta")


def linear_sizes(shape):
    """The seven linears of a block as name -> (N, K)."""
    q, kv = shape.H * shape.D, shape.Hkv * shape.D
    return {"self_attn.q_proj": (q, shape.C), "self_attn.k_proj": (kv, shape.C),
            "self_attn.v_proj": (kv, shape.C), "self_attn.o_proj": (shape.C, q),
            "mlp.gate_proj": (shape.F, shape.C), "mlp.up_proj": (shape.F, shape.C),
            "mlp.down_proj": (shape.C, shape.F)}


NORMS = ("input_layernorm", "post_attention_layernorm")


HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")  # of Qwen3, [D], before heads are rotated


def rope_tables(T, shape, dtype=torch.float32):
    """Cosines and sines, each [T, D/2], of the angles t * theta^(-2i/D)."""
    i = torch.arange(shape.D // 2, dtype=torch.float32)
    angle = torch.outer(torch.arange(T, dtype=torch.float32), shape.theta ** (-2 * i / shape.D))
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, tables):
    """Rotary embedding of x [B, H, T, D]; element i turns with element i + D/2."""
    cos, sin = tables
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def block(x, weights, shape, tables):
    """One decoder block: x [B, T, C] -> [B, T, C].

    weights maps "<name>.weight" to tensors, and what a family has besides: "<linear>.bias", norms
    of heads.
    """
    B, T, _ = x.shape

    def linear(name, h):
        return F.linear(h, weights[name + ".weight"], weights.get(name + ".bias"))

    def norm(name, h):
        return F.rms_norm(h, (shape.C,), weights[name + ".weight"], shape.eps)

    def heads(name, h, count):
        split = linear(f"self_attn.{name}_proj", h).view(B, T, count, shape.D)
        weight = weights.get(f"self_attn.{name}_norm.weight")
        if weight is not None:
            split = F.rms_norm(split, (shape.D,), weight, shape.eps)
        return split.transpose(1, 2)

    h = norm("input_layernorm", x)
    q = rotate(heads("q", h, shape.H), tables)
    k = rotate(heads("k", h, shape.Hkv), tables)
    v = heads("v", h, shape.Hkv)
    a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shape.H != shape.Hkv)
    x = x + linear("self_attn.o_proj", a.transpose(1, 2).reshape(B, T, shape.H * shape.D))
    h = norm("post_attention_layernorm", x)
    gate, up = linear("mlp.gate_proj", h), linear("mlp.up_proj", h)
    return x + linear("mlp.down_proj", F.silu(gate) * up)


def decoder(tokens, outer, blocks, shape):
    """Tokens [B, T] -> logits [B, T, V].

    outer maps names to the embedding, the final norm and, if it is not tied, the head; blocks are
    functions of (x, rotary tables), in order.
    """
    embedding = outer["model.embed_tokens.weight"]
    x = F.embedding(tokens, embedding)
    tables = rope_tables(tokens.shape[1], shape, x.dtype)
    for run in blocks:
        x = run(x, tables)
    x = F.rms_norm(x, (shape.C,), outer["model.norm.weight"], shape.eps)
    return F.linear(x, outer.get("lm_head.weight", embedding))


def straight_through(f, x):
    """f(x) whose gradient with respect to x is 1.

    What is added is exactly 0: with x + (f(x) - x).detach() a code on the edge of its range may
    come out beyond it by a rounding error and lose its gradient in the clamp that follows.
    """
    return f(x).detach() + (x - x.detach())


def least_scale(bits):
    """The smallest scale: 1e-4, and 2^-14 at 8 bits."""
    return 2.0**-14 if bits == 8 else 1e-4


def fake_quant(w, s, z, bits, edges_inside=True, real_zeros=False):
    """Quantize-dequantize w [N, K] by groups; s and z are [N, K/g] [EfficientQAT, eq. 1 and 2].

    Gradients pass straight through the roundings and the clamps of s and z, not through the clamp
    of the code: a weight outside the range moves z and s but not itself. Codes 0 and 2^bits - 1
    themselves are inside, as in the authors' PyTorch; since 2026 the gradient of torch.clamp is 0
    there, which edges_inside=False repeats. So clamp is kept out of the gradient.
    With real_zeros, s and z are used as they are and z is added before the rounding.
    """
    top = 2**bits - 1
    group = w.view(*s.shape, -1)
    if real_zeros:
        s, z = s.unsqueeze(-1), z.unsqueeze(-1)
        code = straight_through(torch.round, group / s + z)
    else:
        s = straight_through(lambda t: t.clamp(least_scale(bits), 1e4), s).unsqueeze(-1)
        z = straight_through(lambda t: t.round().clamp(0, top), z).unsqueeze(-1)
        code = straight_through(torch.round, group / s) + z
    inside = (code >= 0) & (code <= top) if edges_inside else (code > 0) & (code < top)
    code = torch.where(inside, code, code.detach().clamp(0, top))
    return ((code - z) * s).view_as(w)


class FakeQuant(torch.autograd.Function):
    """fake_quant with its gradient in closed form: fewer passes over memory."""

    @staticmethod
    def forward(ctx, w, s, z, bits):
        top = 2**bits - 1
        s, z = s.clamp(least_scale(bits), 1e4).unsqueeze(-1), z.round().clamp(0, top).unsqueeze(-1)
        ratio = w.view(*s.shape[:2], -1) / s
        level = ratio.round()
        step = torch.clamp(level, -z, top - z)  # code - z
        ctx.save_for_backward(level == step, step, ratio, s)
        return (step * s).view_as(w)

    @staticmethod
    def backward(ctx, dy):
        inside, step, ratio, s = ctx.saved_tensors
        dy = dy.reshape(step.shape)
        dw = dy * inside
        ds = (dy * (step - ratio * inside)).sum(-1)
        dz = (dw - dy).sum(-1) * s.squeeze(-1)
        return dw.view(dw.shape[0], -1), ds, dz, None


class Dequantize(torch.autograd.Function):
    """(s, level, dtype) -> s * level, with s [N, K/g] f32 and level = q - z, int8 [N, K/g, g].

    Codes are frozen: only s gets a gradient, the sum over its group of dw * level.
    """

    @staticmethod
    def forward(ctx, s, level, dtype):
        ctx.save_for_backward(level)
        return level.to(dtype).mul_(s.to(dtype).unsqueeze(-1)).flatten(1)

    @staticmethod
    def backward(ctx, dw):
        level, = ctx.saved_tensors
        product = level.to(dw.dtype).mul_(dw.view(level.shape))
        return product.sum(-1, dtype=torch.promote_types(dw.dtype, torch.float32)), None, None
