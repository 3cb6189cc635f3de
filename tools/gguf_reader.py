"""Read a GGUF file of the architectures llama, qwen2, qwen3 as Hugging Face weights, with numpy only.

Knows F32, F16, Q4_1 and Q8_0 tensors. Meant to check eqat by: plain, not fast, and it trusts files.
"""
import struct

import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?",
           10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# ggml type -> (elements of a block, bytes of a block)
BLOCKS = {0: (1, 4), 1: (1, 2), 3: (32, 20), 8: (32, 34)}
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm", "attn_q_norm": "self_attn.q_norm",
         "attn_k_norm": "self_attn.k_norm"}
OUTER = {"token_embd.weight": "model.embed_tokens.weight",
         "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}


class Gguf:
    """metadata: dict; tensors: name -> (ggml type, shape with rows first, offset in the file)."""

    def __init__(self, path):
        self.data = np.memmap(path, np.uint8, "r")
        self.at = 4
        assert bytes(self.data[:4]) == b"GGUF" and self.scalar("I") == 3, f"{path}: not GGUF v3"
        tensor_count, pair_count = self.scalar("Q"), self.scalar("Q")
        self.metadata = {self.string(): self.value(self.scalar("I")) for _ in range(pair_count)}
        infos = [self.tensor_info() for _ in range(tensor_count)]
        alignment = self.metadata.get("general.alignment", 32)
        start = -(-self.at // alignment) * alignment
        self.tensors = {name: (kind, shape, start + at) for name, kind, shape, at in infos}

    def scalar(self, code):
        size = struct.calcsize("<" + code)
        self.at += size
        return struct.unpack("<" + code, self.data[self.at - size:self.at].tobytes())[0]

    def string(self):
        size = self.scalar("Q")
        self.at += size
        return self.data[self.at - size:self.at].tobytes().decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, count = self.scalar("I"), self.scalar("Q")
            return [self.value(element) for _ in range(count)]
        return self.scalar(SCALARS[kind])

    def tensor_info(self):
        name = self.string()
        sizes = [self.scalar("Q") for _ in range(self.scalar("I"))]
        return name, self.scalar("I"), tuple(reversed(sizes)), self.scalar("Q")

    def dequantize(self, name):
        """The tensor as f32."""
        kind, shape, at = self.tensors[name]
        elements, size = BLOCKS[kind]
        blocks = int(np.prod(shape)) // elements
        raw = self.data[at:at + blocks * size].reshape(blocks, size)
        if kind in (0, 1):
            return raw.view("<f4" if kind == 0 else "<f2").astype(np.float32).reshape(shape)
        step = raw[:, :2].copy().view("<f2").astype(np.float32)
        if kind == 8:
            values = raw[:, 2:].copy().view(np.int8) * step
        else:
            low = raw[:, 2:4].copy().view("<f2").astype(np.float32)
            values = np.concatenate((raw[:, 4:] & 15, raw[:, 4:] >> 4), axis=1) * step + low
        return values.astype(np.float32).reshape(shape)

    def architecture(self, key, default=None):
        return self.metadata.get(f"{self.family()}.{key}", default)

    def family(self):
        return self.metadata["general.architecture"]

    def config(self):
        """What config.json would say."""
        hidden = self.architecture("embedding_length")
        heads = self.architecture("attention.head_count")
        biased = "blk.0.attn_output.bias" in self.tensors, "blk.0.ffn_up.bias" in self.tensors
        return {
            "model_type": self.family(), "attention_bias": biased[0], "mlp_bias": biased[1],
            "hidden_size": hidden, "num_attention_heads": heads,
            "num_key_value_heads": self.architecture("attention.head_count_kv", heads),
            "head_dim": self.architecture("attention.key_length", hidden // heads),
            "intermediate_size": self.architecture("feed_forward_length"),
            "num_hidden_layers": self.architecture("block_count"),
            "max_position_embeddings": self.architecture("context_length"),
            "rms_norm_eps": self.architecture("attention.layer_norm_rms_epsilon"),
            "rope_parameters": {"rope_type": "default",
                                "rope_theta": self.architecture("rope.freq_base", 1e4)},
            "vocab_size": self.tensors["token_embd.weight"][1][0],
            "tie_word_embeddings": "output.weight" not in self.tensors,
        }

    def weights(self):
        """Yields (Hugging Face name, f32 array) of all tensors."""
        config = self.config()
        heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
        for name in self.tensors:
            array = self.dequantize(name)
            if name in OUTER:
                yield OUTER[name], array
                continue
            _, layer, part, leaf = name.split(".")
            if part in heads and self.family() == "llama":  # rows of a rotary pair are neighbours here, D/2 apart there
                pairs = array.reshape(heads[part], -1, 2, *array.shape[1:])
                array = pairs.swapaxes(1, 2).reshape(array.shape)
            yield f"model.layers.{layer}.{NAMES[part]}.{leaf}", array
