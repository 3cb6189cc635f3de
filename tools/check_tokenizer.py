#!/usr/bin/env python3
"""Compare eqat's token ids with those of the `tokenizers` package.

  tools/check_tokenizer.py EQAT MODEL [TEXT...]

EQAT is the program, run as `EQAT tokenize MODEL --stdin`; MODEL a folder with tokenizer.json or a
GGUF file, from whose metadata the reference is put together here; TEXT are UTF-8 files that are
compared whole, besides strings of this script. Prints one line; exit code 1 on any difference.
"""
import os
import random
import subprocess
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers)

CONTROL, USER = 3, 4  # token types of GGUF
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")

STRINGS = [
    "", " ", "  ", "\n", " \n", "\t\t", "a", " a", "  a", "   a ", "a  b   c    d",
    "1", " 1", "  1", "   12  345", "a1b22c333", "x 1 y  22   z", "1.5e-3, 2,000,000", "v2 .3",
    "tabs\t\tand\nnew\n\nlines\r\n\r\n  end", " \t \n \t x", "\n 1\n  2", "trailing   ",
    "trailing \n",
    "I'll we've they're he's can't I'd 'm 's's 'S 'LL it''s ' s '", "'tis 't1 ''d",
    "def f(x):\n    return x**2  # comment\n\n\n\tpass",
    "e\u0301 n\u0303 \u0301\u0301 a\u0308\u0304",
    "\u65e5\u672c\u8a9e\u306e\u6587 \u4e2d\u6587\uff0c\u3002",
    "\ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940 \u05e2\u05d1",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\u2764\ufe0f",
    "\u0663\u0664 \u00bd \u2167 \u3007 x\u00b2 \u2460 1\u00bd2",
    "a\u00a0b\u00a0 c \u3000d\u2003\u2009e\u200bf\ufeffg\u2028h\u0085i\u180ej",
    "\u2014\u201cquotes\u201d\u2026 \u20ac5 \u00a33 \U0010fffd \ue000",
    "\x00\x01\x02 \x7f\x1b[0m \x04\x06",
    "<|im_start|>user\nhi<|im_end|>\n", "a<|im_end|>b", " <|im_end|> ",
    "<|endoftext|><|endoftext|>",
    "<|im_start <|im_startt|> |>", "<<|im_end|>>",
    "1<|im_end|>2  <|im_end|>  3 <file_sep>x<reponame>",
    "a" * 5000, " " * 3000 + "x",
    "ab" * 3000, "1" * 2000, "!?" * 2000, "\n" * 2000, "\u65e5" * 2000,
]


def random_strings():
    """Mixtures of all kinds of characters; always the same ones."""
    rng = random.Random(1)
    pools = [" \t\n\r\u00a0\u3000", "0123456789\u0663\u00bd", "abcXYZ\u00e9\u0436\u65e5",
             "'.,!<|>_\u2014\u0301",
             [chr(c) for c in range(0x80, 0x30000) if not 0xD800 <= c < 0xE000]]
    for length in [3] * 20 + [30] * 20 + [3000] * 4:
        yield "".join(rng.choice(rng.choice(pools)) for _ in range(length))


def from_gguf(path):
    """The tokenizer that the metadata describes, built from the parts of the package."""
    from gguf_reader import Gguf
    metadata = Gguf(path).metadata
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    result = Tokenizer(models.BPE({name: i for i, name in enumerate(tokens)}, merges))
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    pre = metadata["tokenizer.ggml.pre"]
    if pre == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif pre == "qwen2":
        steps = [pre_tokenizers.Split(Regex(QWEN2), "isolated"),
                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        result.normalizer = normalizers.NFC()
    elif pre not in ("gpt2", "gpt-2", "default"):
        sys.exit(f"check_tokenizer: {path}: pre-tokenizer {pre} is unknown")
    result.pre_tokenizer = pre_tokenizers.Sequence(steps)
    result.decoder = decoders.ByteLevel()
    for name, kind in zip(tokens, metadata["tokenizer.ggml.token_type"]):
        if kind in (CONTROL, USER):
            result.add_tokens([AddedToken(name, normalized=False, special=kind == CONTROL)])
    return result


def eqat_ids(program, model, text):
    run = subprocess.run([program, "tokenize", model, "--stdin"], input=text.encode(),
                         capture_output=True, check=False)
    if run.returncode:
        sys.exit(f"check_tokenizer: {program} failed: {run.stderr.decode(errors='replace')}")
    return [int(word) for word in run.stdout.split()]


def difference(got, want, reference):
    """The first place where two lists of ids differ, in words."""
    at = next((i for i, pair in enumerate(zip(got, want)) if pair[0] != pair[1]),
              min(len(got), len(want)))
    return (f"token {at} of {len(want)} (eqat: {len(got)}) after "
            f"{reference.decode(want[max(0, at - 5):at], skip_special_tokens=False)!r}: "
            f"eqat {got[at:at + 5]}, tokenizers {want[at:at + 5]}")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, model, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    if os.path.isdir(model):
        reference = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    else:
        reference = from_gguf(model)
    texts = [(repr(text[:60]), text) for text in [*STRINGS, *random_strings()]]
    for path in files:
        with open(path, encoding="utf-8", newline="") as lines:
            texts.append((path, lines.read()))
    wrong = tokens = 0
    for name, text in texts:
        want = reference.encode(text, add_special_tokens=False).ids
        got = eqat_ids(program, model, text)
        tokens += len(want)
        if got != want:
            wrong += 1
            print(f"check_tokenizer: {name}: {difference(got, want, reference)}")
    print(f"check_tokenizer: {len(texts) - wrong} of {len(texts)} texts agree, {tokens} tokens")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
