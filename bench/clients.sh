#!/bin/bash
# eqat against llama.cpp on the same machine, in turn: a prompt of 512 tokens, then 128 one at a time.
#   bench/clients.sh EQAT        in the environment .venv-clients (make bench-clients)
# The models are rounded, which is as fast as trained. One line of JSON a row: tokens per second of
# llama.cpp and of eqat, and their ratios; medians of 3 rounds.
set -eu
cd "$(dirname "$0")/.."

eqat=$1
model=models/smollm2-135m-instruct.gguf
out=out/clients
python=.venv-clients/bin/python

make_model() { # NAME BITS GROUP
    [ -e "$out/$1.gguf" ] && return
    rm -rf "${out:?}/$1"
    "$eqat" quantize $model -o "$out/$1" -q --method rtn --init mse --grid symmetric --bits "$2" --group "$3" \
        --embed-bits 8 --head-bits 8 >/dev/null
    "$eqat" export "$out/$1" -o "$out/$1.gguf" -q --format gguf >/dev/null
}

row() { # WHAT, THE FILE OF LLAMA.CPP, OPTIONS...
    local what=$1 file=$2
    shift 2
    echo "$what: $($python bench/peer_llama.py "$file" --eqat "$eqat" "$@")"
}

mkdir -p $out
make_model 2-bits 2 64
make_model 4-bits 4 32
"$eqat" bench $model --only decode | grep memory_read
row "eqat Q2_0, llama.cpp Q4_0" $out/4-bits.gguf --model $out/2-bits.gguf
row "the same file, Q2_0" $out/2-bits.gguf
row "the same file, Q4_0" $out/4-bits.gguf
row "the same file, Q4_1" $model
