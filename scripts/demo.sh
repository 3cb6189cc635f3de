#!/bin/bash
# The program on a small sample, in minutes to an hour: quantize a real model by rounding and by
# training, compare both with full precision, and let the trained one speak. Needs no data: the
# calibration text and the text to judge on are sampled from the model itself, with different seeds.
#   scripts/demo.sh [EQAT]      the results stay in out/demo
set -eu
cd "$(dirname "$0")/.."

eqat=${1:-build/eqat}
model=models/smollm2-135m-instruct.gguf
out=out/demo
bits=2
group=64
ends=(--embed-bits 8 --head-bits 8) # the model's own are on a grid of 8 bits already
calibration=(--calib self --samples 32 --val-samples 4 --seqlen 512
    --tune-epochs 2)
judge=(--context 256)
prompt="The capital of France is"

field() { # KEY FORMAT, JSON on stdin
    python3 -c 'import json, sys; print(sys.argv[2] % json.load(sys.stdin)[sys.argv[1]])' "$1" "$2"
}

mkdir -p "$out"
rm -rf "${out:?}"/*
started=$SECONDS

echo "== Text to judge on, sampled from the full-precision model"
seed=1000
for topic in "The history of" "Water is" "To write a program, first" "She opened the door and" \
    "In the year 1900" "The main difference between" "Dear Sir or Madam," "A good recipe for"; do
    seed=$((seed + 1))
    text=$("$eqat" generate "$model" -q -p "$topic" -n 160 --temperature 1 --seed $seed)
    echo "$topic$text"
done >"$out/text.txt"
echo "$(wc -w <"$out/text.txt") words in $((SECONDS - started)) s: $out/text.txt"

echo "== Round to nearest, $bits bits, groups of $group"
"$eqat" quantize "$model" -o "$out/rtn" -q --method rtn --init minmax --bits $bits --group $group \
    "${ends[@]}" --json >"$out/rtn.json"
echo "== eqat: blocks, then the whole model, $bits bits, groups of $group"
"$eqat" quantize "$model" -o "$out/eqat" --bits $bits --group $group "${ends[@]}" "${calibration[@]}" \
    --json >"$out/eqat.json"

row() { # NAME MODEL BITS SECONDS
    local size result
    size=$("$eqat" inspect "$2" --json | field bytes %d)
    result=$("$eqat" eval "$2" -q --reference "$model" --text "$out/text.txt" "${judge[@]}" --json)
    printf '%-18s %9s %9.1f %12.2f %9.3f %8.1f %9s\n' "$1" "$3" "$(mebibytes "$size")" \
        "$(field perplexity %.6g <<<"$result")" "$(field kl %.6g <<<"$result")" \
        "$(field top1 '%.6g' <<<"$result" | percent)" "$4"
}
mebibytes() { awk -v b="$1" 'BEGIN { print b / 1048576 }'; }
percent() { awk '{ print 100 * $1 }'; }

echo
printf '%-18s %9s %9s %12s %9s %8s %9s\n' model bits/wt MiB perplexity KL top-1% seconds
row "full precision" "$model" "-" "-"
for name in rtn eqat; do
    row "$name" "$out/$name" "$(field bits_per_weight %.2f <"$out/$name.json")" \
        "$(field seconds %.0f <"$out/$name.json")"
done

echo
for name in full rtn eqat; do
    folder=$out/$name
    [ "$name" != full ] || folder=$model
    "$eqat" generate "$folder" -q -p "$prompt" -n 30 --temperature 0 --json >"$out/said.json"
    echo "$name: $prompt$(field text %s <"$out/said.json") ($(field tokens_per_second %.0f \
        <"$out/said.json") tokens/s)"
done
echo
echo "$((SECONDS - started)) s in all; the quantized model is $out/eqat"
