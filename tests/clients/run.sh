#!/bin/bash
# Every kind of file that eqat exports, read by programs that we did not write.
#   tests/clients/run.sh EQAT        in the environment .venv-clients (make test-clients)
# 2 bits are trained in the real table; here all models are rounded, which is enough to compare.
set -u
cd "$(dirname "$0")/../.." || exit 1
eqat=$(realpath "$1")
model=models/smollm2-135m-instruct.gguf
python=.venv-clients/bin/python
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

check() { "$@" || { echo "failed: $*"; failed=1; }; }

# bits, grid, group, limits: quantized, exported, its weights by another reader, logits and text by llama.cpp.
# llama.cpp multiplies these types with activations of 8 bits, which moves the logits of rounded
# models the more the worse they are (seen: 0.40 of the largest at 2 bits, 0.10 at 3, 0.18 with Q3_K). The twin with
# the same weights as halves, which it multiplies with halves, shows that nothing else does (seen at 2
# bits: 0.008 with AVX-512, 0.011 with AVX2; else at most 0.002).
for case in '2 symmetric 64 0.6 0.03' '3 asymmetric 64 0.15 0.01' '4 symmetric 32 0.1 0.01' \
    '4 asymmetric 32 0.1 0.01' '8 symmetric 32 0.06 0.01' '2 q2_k 16 0.6 0.03' \
    '3 q3_k 16 0.25 0.01' '4 q4_k 32 0.1 0.01'; do
    # shellcheck disable=SC2086
    set -- $case
    out=$work/$1-$2
    check "$eqat" quantize $model -o "$out" -q --method rtn --init mse --bits "$1" --grid "$2" \
        --group "$3" >/dev/null
    check "$eqat" export "$out" -o "$out.gguf" -q --format gguf
    check $python tests/clients/check_gguf.py "$eqat" "$out" "$out.gguf"
    check $python tests/clients/check_llama.py "$eqat" "$out" "$out.gguf" --most "$4"
    check "$eqat" export "$out" -o "$out-dense" -q --format dense >/dev/null
    check "$eqat" export "$out-dense" -o "$out-f16.gguf" -q --format gguf >/dev/null
    check $python tests/clients/check_llama.py "$eqat" "$out-dense" "$out-f16.gguf" --most "$5"
    rm -r "$work"/*
done
exit $failed
