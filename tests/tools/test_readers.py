#!/usr/bin/env python3
"""Tests of the Python readers in tools/, on small files made here; needs numpy and safetensors."""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from safetensors.numpy import save_file

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
import gptq_reader
from gguf_reader import Gguf
from rtn_model import Grid, quantize, search


def pack_rows(values, bits):
    """Fields of each column [R, n] -> words [R*bits/32, n], bit by bit with whole numbers."""
    words = np.zeros((values.shape[0] * bits // 32, values.shape[1]), np.uint32)
    for row, column in np.ndindex(values.shape):
        for bit in range(bits):
            if int(values[row, column]) >> bit & 1:
                at = row * bits + bit
                words[at // 32, column] |= np.uint32(1 << at % 32)
    return words.view(np.int32)


def write_gptq(folder, linears, bits, group):
    """linears: name -> codes [N, K], zeros [N, K/g], scales [N, K/g]."""
    tensors = {}
    for name, (q, z, s) in linears.items():
        tensors[name + ".qweight"] = pack_rows(q.T, bits)
        tensors[name + ".qzeros"] = np.ascontiguousarray(pack_rows(z, bits).T)
        tensors[name + ".scales"] = np.ascontiguousarray(s.T.astype(np.float16))
        tensors[name + ".g_idx"] = (np.arange(q.shape[1]) // group).astype(np.int32)
    folder = pathlib.Path(folder)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "quantize_config.json").write_text(json.dumps({"bits": bits, "group_size": group}))


class GptqReader(unittest.TestCase):
    def test_reads_what_was_packed(self):
        random = np.random.default_rng(1)
        N, K, group = 32, 64, 32
        for bits in (2, 3, 4, 8):
            with self.subTest(bits=bits), tempfile.TemporaryDirectory() as folder:
                q = random.integers(2**bits, size=(N, K))
                z = random.integers(2**bits, size=(N, K // group))
                s = random.random((N, K // group)).astype(np.float16)
                write_gptq(folder, {"a.q_proj": (q, z, s)}, bits, group)
                (name, codes, zeros, scales, index), = gptq_reader.linears(folder)
                self.assertEqual(name, "a.q_proj")
                np.testing.assert_array_equal(codes, q)
                np.testing.assert_array_equal(zeros, z)
                w = gptq_reader.dequantize(codes, zeros, scales, index)
                for n, k in ((0, 0), (5, 33), (N - 1, K - 1)):
                    g = k // group
                    self.assertEqual(w[n, k], (q[n, k] - z[n, g]) * np.float32(s[n, g]))

    def test_modules_with_bits_of_their_own(self):
        random = np.random.default_rng(6)
        N, K, group = 32, 64, 32
        q, z = random.integers(4, size=(N, K)), random.integers(4, size=(N, K // group))
        linears = {"m.1.up": (q, z, np.ones(z.shape)), "m.11.up": (q, z, np.ones(z.shape))}
        key = r"+:m\.1\.up"
        with tempfile.TemporaryDirectory() as folder:
            write_gptq(folder, linears, 2, group)
            path = pathlib.Path(folder, "quantize_config.json")
            cases = ((2, 32, {}, True), (2, 32, {"+:m.*": {}}, True),
                     (2, 32, {key: {"bits": 3}}, False), (2, 32, {key: {"group_size": 64}}, False),
                     (3, 32, {key: {"bits": 2}}, False),  # 11 has the bits of the model
                     (2, 32, {r"+:^m\.1$": {"bits": 3}, r"-:m": {"bits": 3}}, True),
                     (3, 64, {key + "$": {"bits": 2, "group_size": 32},
                              r"^m\.11": {"bits": 2, "group_size": 32}}, True))
            for bits, size, dynamic, right in cases:
                with self.subTest(bits=bits, size=size, dynamic=dynamic):
                    path.write_text(json.dumps({"bits": bits, "group_size": size,
                                                "dynamic": dynamic}))
                    if not right:
                        with self.assertRaisesRegex(ValueError, "is not of"):
                            list(gptq_reader.linears(folder))
                        continue
                    for name, codes, *_ in gptq_reader.linears(folder):
                        np.testing.assert_array_equal(codes, q, name)

    def test_three_bits_cross_words(self):
        codes = np.zeros((32, 1), int)
        codes[10], codes[21] = 5, 6  # 101 at bits 30..32; 110 at bits 63..65
        words = pack_rows(codes, 3).view(np.uint32)[:, 0]
        self.assertEqual([hex(word) for word in words], ["0x40000000", "0x1", "0x3"])
        np.testing.assert_array_equal(gptq_reader.fields(words[None], 3)[0], codes[:, 0])


class RoundToNearest(unittest.TestCase):
    def test_small_group_by_hand(self):
        w = np.array([[-0.5, 0.25, 1.0, 0.75]], np.float32)
        q, z, s = quantize(w, 2, 4)
        # w / s = -1, 0.5, 2, 1.5: both ties go to the even number
        self.assertEqual((q.tolist(), z.tolist(), s.tolist()), ([[0, 1, 3, 3]], [[1]], [[0.5]]))

    def test_range_contains_zero(self):
        q, z, s = quantize(np.array([[2.0, 3.0], [-3.0, -2.0]], np.float32), 2, 2)
        self.assertEqual((q.tolist(), z.tolist()), ([[2, 3], [0, 1]], [[0], [3]]))
        self.assertEqual(s.tolist(), [[1], [1]])

    def test_zero_weights(self):
        q, z, s = quantize(np.zeros((1, 4), np.float32), 3, 4)
        self.assertEqual((q.tolist(), z.tolist()), ([[0] * 4], [[0]]))
        self.assertEqual(s[0, 0], np.float32(np.float16(1e-4)))

    def test_symmetric_group_by_hand(self):
        w = np.array([[-0.5, 0.25, 1.0, 0.75]], np.float32)
        q, z, s = quantize(w, 2, 4, symmetric=True)
        # w / s = 1, -0.5, -2, -1.5: the largest gets code 0, ties go to the even number
        self.assertEqual((q.tolist(), z.tolist(), s.tolist()), ([[3, 2, 0, 0]], [[2]], [[-0.5]]))

    def test_search_finds_a_planted_grid(self):
        random = np.random.default_rng(4)
        for bits in (2, 3, 4):  # at 8 the next scale tried is too far for the codes to come right
            codes = random.integers(2**bits, size=(8, 1, 64))
            codes[:, 0, :2] = 0, 2**bits - 1
            for symmetric in (False, True):
                zero = 2**(bits - 1) if symmetric else random.integers(2**bits, size=(8, 1, 1))
                sign = np.where(np.arange(8) % 2, -1, 1) if symmetric else np.ones(8)
                step = np.float32(0.03) * sign.astype(np.float32)[:, None, None]
                w = ((codes - zero) * step).astype(np.float32)
                s, _ = search(w, np.ones(64, np.float32), Grid(bits, symmetric))
                np.testing.assert_allclose(s, step[..., 0], 1e-3)

    def test_scale_of_8_bit_blocks(self):
        random = np.random.default_rng(7)
        codes = random.integers(-127, 128, size=(4, 64))
        codes[:, ::32] = 127
        w = (codes * np.float32(np.float16(0.003))).astype(np.float32)
        q, z, s = quantize(w, 8, 32, symmetric=True, weights=np.ones(64))
        np.testing.assert_array_equal((q.astype(np.float32) - 128) * s.repeat(32, 1), w)
        self.assertTrue((z == 128).all())

    def test_search_looks_at_the_weights(self):
        w = np.random.default_rng(5).normal(size=(4, 2, 32)).astype(np.float32)
        heavy = np.ones((2, 32), np.float32)
        heavy[:, 7] = 1e6
        for symmetric in (False, True):
            s, z = search(w, heavy, Grid(3, symmetric))
            q = np.clip(np.rint(w[..., 7] / s) + z, 0, 7)
            self.assertLess(np.abs((q - z) * s - w[..., 7]).max(), 2e-3)

    def test_error_is_half_a_step(self):
        w = np.random.default_rng(2).normal(size=(16, 64)).astype(np.float32)
        for bits in (2, 3, 4, 8):
            q, z, s = quantize(w, bits, 32)
            error = (q.reshape(16, 2, 32) - z[..., None].astype(np.float32)) * s[..., None]
            error = np.abs(error - w.reshape(16, 2, 32)) / s[..., None]
            # The zero is rounded too, so an end of the range may be cut by another half step.
            self.assertLess(error.max(), 1.01)
            self.assertLess(np.median(error), 0.3)


def gguf_string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_gguf(path, pairs, tensors):
    """pairs: key -> u32, f32 or list of strings; tensors: name -> (type, shape, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    for key, value in pairs.items():
        out += gguf_string(key)
        if isinstance(value, list):
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(gguf_string, value))
        elif isinstance(value, str):
            out += struct.pack("<I", 8) + gguf_string(value)
        else:
            out += struct.pack("<If" if isinstance(value, float) else "<II",
                               6 if isinstance(value, float) else 4, value)
    data = b""
    for name, (kind, shape, raw) in tensors.items():
        out += gguf_string(name) + struct.pack("<I", len(shape))
        out += struct.pack(f"<{len(shape)}QIQ", *reversed(shape), kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    pathlib.Path(path).write_bytes(out + bytes(-len(out) % 32) + data)


C, HEADS, FF = 32, 2, 32


def small_gguf(path, q_rows):
    """A model of one block whose q_proj has the given rows; all other weights are Q4_1."""
    random = np.random.default_rng(3)

    def q4_1(rows):
        blocks = random.integers(256, size=(rows, 20), dtype=np.uint8)
        blocks[:, :4] = np.frombuffer(struct.pack("<ee", 0.5, -2.0), np.uint8)
        return 3, (rows, C), blocks.tobytes()

    q8 = np.arange(-16, 16, dtype=np.int8)
    ones = np.ones(C, "<f4").tobytes()
    tensors = {"token_embd.weight": (8, (1, C), struct.pack("<e", 0.25) + q8.tobytes()),
               "output_norm.weight": (0, (C,), ones), "blk.0.attn_norm.weight": (0, (C,), ones),
               "blk.0.ffn_norm.weight": (0, (C,), ones),
               "blk.0.attn_q.weight": (0, (C, C), q_rows.astype("<f4").tobytes())}
    for part in ("attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        tensors[f"blk.0.{part}.weight"] = q4_1(C)
    write_gguf(path, {"general.architecture": "llama", "tokenizer.ggml.tokens": ["a", "é"],
                      "llama.embedding_length": C, "llama.attention.head_count": HEADS,
                      "llama.feed_forward_length": FF, "llama.block_count": 1,
                      "llama.context_length": 8, "llama.rope.freq_base": 1e5,
                      "llama.attention.layer_norm_rms_epsilon": 1e-5}, tensors)


class GgufReader(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = self.folder / "model.gguf"
        small_gguf(self.path, np.arange(C)[:, None] * np.ones((1, C)))

    def test_metadata(self):
        gguf = Gguf(self.path)
        self.assertEqual(gguf.metadata["tokenizer.ggml.tokens"], ["a", "é"])
        config = gguf.config()
        self.assertEqual((config["num_key_value_heads"], config["head_dim"]), (HEADS, C // HEADS))
        self.assertTrue(config["tie_word_embeddings"])

    def test_values(self):
        weights = dict(Gguf(self.path).weights())
        self.assertEqual(len(weights), 11)
        np.testing.assert_array_equal(weights["model.embed_tokens.weight"][0],
                                      0.25 * np.arange(-16, 16))
        gguf = Gguf(self.path)
        _, _, at = gguf.tensors["blk.0.ffn_up.weight"]
        block = bytes(gguf.data[at + 20:at + 40])  # of row 1
        up = weights["model.layers.0.mlp.up_proj.weight"]
        self.assertEqual(up[1, 3], 0.5 * (block[4 + 3] & 15) - 2)
        self.assertEqual(up[1, 16 + 3], 0.5 * (block[4 + 3] >> 4) - 2)

    def test_rotary_rows(self):
        q = dict(Gguf(self.path).weights())["model.layers.0.self_attn.q_proj.weight"]
        half = C // HEADS // 2
        for head in range(HEADS):
            for j in range(2):
                for i in range(half):
                    row = head * 2 * half + j * half + i
                    self.assertEqual(q[row, 0], head * 2 * half + 2 * i + j)

    def check_rtn(self, linears):
        write_gptq(self.folder, linears, 2, 32)
        return subprocess.run([sys.executable, TOOLS / "check_rtn.py", self.path, self.folder],
                              capture_output=True, text=True)

    def test_check_rtn(self):
        linears = {name.removesuffix(".weight"): quantize(w, 2, 32)
                   for name, w in Gguf(self.path).weights() if "_proj." in name}
        right = self.check_rtn(linears)
        self.assertEqual(right.returncode, 0, right.stderr)
        self.assertIn("7 linears; equal codes 100.00000%", right.stdout)
        linears["model.layers.0.mlp.up_proj"][1][0] ^= 1  # one zero of 224 is wrong
        self.assertEqual(self.check_rtn(linears).returncode, 1)
        linears["model.layers.0.mlp.up_proj"][1][0] ^= 1
        del linears["model.layers.0.mlp.down_proj"]
        missing = self.check_rtn(linears)
        self.assertEqual(missing.returncode, 1)
        self.assertIn("mlp.down_proj", missing.stderr)


if __name__ == "__main__":
    unittest.main()
