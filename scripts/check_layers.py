#!/usr/bin/env python3
"""Includes go only down the layers of the source tree.

  scripts/check_layers.py [ROOT]        prints each include that does not, exit code 1
  scripts/check_layers.py --self-test   plants one violation of each kind and expects to find it

base <- tensor <- kernels, io <- model <- quant <- infer <- train, eval, export <- eqat.c <- app; the
files eqat*.c and eqat*.h are the layer eqat.c; folders of one layer do not see each other; app sees
only eqat.h and itself; only kernels/gemm*.c see oneDNN, only app/serve the HTTP library; system
headers are free otherwise.
"""
import os
import re
import sys
import tempfile

LAYERS = [["base"], ["tensor"], ["kernels", "io"], ["model"], ["quant"], ["infer"],
          ["train", "eval", "export"], ["eqat.c"], ["app"]]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
GEMM = re.compile(r"kernels/gemm\w*\.c")
API = re.compile(r"eqat\w*\.[ch]")


def layer_of(name):
    """The layer that a file or header is in, or its folder when that is no layer."""
    return "eqat.c" if API.fullmatch(name) else name.split("/")[0]


def verdict(file, quoted, header):
    """Why `file` (relative to src/) may not include `header`; None when it may."""
    if "dnnl" in header and not GEMM.fullmatch(file):
        return "oneDNN belongs to kernels/gemm*.c"
    if "microhttpd" in header and not file.startswith("app/serve/"):
        return "libmicrohttpd belongs to app/serve"
    if not quoted or header == "eqat.h":
        return None
    own, other = layer_of(file), layer_of(header)
    if own not in RANK:
        return f"{own} is in no layer"
    if other not in RANK or ("/" not in header and other != "eqat.c"):
        return 'own headers are included as "folder/name.h"'
    if own == "app" and other != "app":
        return "app knows only eqat.h and its own headers"
    if own != other and RANK[other] >= RANK[own]:
        return f"{other} is not below {own}"
    return None


def violations(root):
    """Messages for every include under root/src that goes the wrong way, and the files seen."""
    found, seen = [], 0
    source = os.path.join(root, "src")
    for folder, _, names in os.walk(source):
        for name in sorted(names):
            if not name.endswith((".c", ".h")):
                continue
            seen += 1
            path = os.path.join(folder, name)
            file = os.path.relpath(path, source)
            with open(path, encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    match = INCLUDE.match(line)
                    why = match and verdict(file, match[1] == '"', match[2])
                    if why:
                        found.append(f"src/{file}:{number}: {match[2]}: {why}")
    return found, seen


def self_test():
    """Each planted include must be found, each allowed one must pass."""
    planted = {
        "base/a.c": '#include "tensor/tensor.h"', "io/a.c": '#include "kernels/kernels.h"',
        "tensor/a.c": '#include "dtype.h"', "model/a.c": "#include <oneapi/dnnl/dnnl.h>",
        "app/a.c": '#include "base/file.h"', "eval/a.c": '#  include "train/fit.h"',
        "extra/a.c": '#include "base/file.h"', "infer/a.c": '#include "app/app.h"',
        "app/d.c": "#include <microhttpd.h>",
        "train/a.c": '#include "eqat_internal.h"', "app/c.c": '#include "eqat_internal.h"',
        "eqat_a.c": '#include "app/app.h"', "other.c": '#include "base/file.h"',
    }
    allowed = {
        "kernels/gemm_dnnl.c": "#include <dnnl.h>", "base/b.c": '#include "eqat.h"',
        "train/b.c": '#include "infer/generate.h"', "app/b.c": '#include "app/options.h"',
        "app/serve/a.c": "#include <microhttpd.h>",
        "eqat.c": '#include "eval/perplexity.h"', "io/b.c": "#include <jansson.h>",
        "eqat_b.c": '#include "eqat_internal.h"', "eqat_internal.h": '#include "model/decoder.h"',
    }
    with tempfile.TemporaryDirectory() as root:
        for file, line in {**planted, **allowed}.items():
            path = os.path.join(root, "src", file)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as out:
                out.write(line + "\n")
        found, _ = violations(root)
    named = {message.split(":")[0][len("src/"):] for message in found}
    for file in sorted(named ^ set(planted)):
        print(f"self test: {file}: {'missed' if file in planted else 'refused without reason'}")
    return named == set(planted)


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 0 if self_test() else 1
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..")
    found, seen = violations(root)
    print("\n".join(found) if found else f"layers: {seen} files, every include goes down")
    return 1 if found or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
