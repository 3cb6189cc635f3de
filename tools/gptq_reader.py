"""Read the linears of a folder with GPTQ-v2 tensors (2, 3, 4, 8 bits)."""
import json, pathlib, re, numpy as np


def tensors(path):
    kinds = {"I32": "<i4", "F16": "<f2", "F32": "<f4", "BF16": "<u2"}
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int(data[:8].view("<u8")[0])
    for name, t in json.loads(data[8:start].tobytes()).items():
        if name != "__metadata__":
            raw = data[start:][slice(*t["data_offsets"])].view(kinds[t["dtype"]])
            yield name, raw.reshape(t["shape"])


def fields(words, bits):  # the words of a row are one stream of bits, lowest first
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), 1, bitorder="little")
    return np.packbits(stream.reshape(len(words), -1, bits), 2, bitorder="little")[..., 0]


def settings(config, module):  # what the configuration says of a module, also in `dynamic`
    for key, value in config.get("dynamic", {}).items():
        if re.match(key.removeprefix("+:"), module):
            return config | value
    return config


def linears(folder):  # name, codes [N, K], zeros [N, K/g], scales [N, K/g], group of a column [K]
    config = json.loads(pathlib.Path(folder, "quantize_config.json").read_bytes())
    found = {k: t for p in pathlib.Path(folder).glob("*.safetensors") for k, t in tensors(p)}
    for name in (k[:-8] for k in found if k.endswith(".qweight")):
        q, z, s, g = (found[name + end] for end in (".qweight", ".qzeros", ".scales", ".g_idx"))
        own, K = settings(config, name), len(g)
        (groups, N), bits, group = s.shape, own["bits"], own["group_size"]
        right = q.shape == (K * bits // 32, N) and z.shape == (groups, N * bits // 32)
        if not right or groups * (K if group == -1 else group) != K:
            raise ValueError(f"{name}: is not of {bits} bits in groups of {group}")
        yield name, fields(q.T, bits), fields(z, bits).T, s.T.astype(np.float32), g


def dequantize(codes, zeros, scales, group):
    return (codes.astype(np.float32) - zeros[:, group]) * scales[:, group]
