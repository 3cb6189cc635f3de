#!/bin/bash
# The quality table of docs/results.md, one row a result file: a row that is there is not made again.
#   bench/table.sh [ROW...]     rows: full rtn-w4 rtn-w3 rtn-w2 weighted-w4 weighted-w3 weighted-w2 ap-w2 ap-w3 paper-w3 eqat-w2 eqat-w3 eqat-w4
#             fast-w2 default-w2 best-w2 ... (presets, an hour and more)
#             (ap: blocks alone, asymmetric; paper: with its settings; eqat: three passes of each phase)
#             self-w3 (fast, on text of the model itself), mixed-w3 (fast, bits chosen for the
#             mean that uniform ones have)
# Needs build/eqat, `make model`, and calibration and evaluation text in ../shared/data (or EQAT_DATA).
set -eu
cd "$(dirname "$0")/.."

eqat=${EQAT:-build/eqat}
model=models/smollm2-135m-instruct.gguf
data=${EQAT_DATA:-../shared/data}
out=out/table
calib=(--calib "$data/calib/train.jsonl" --val "$data/calib/val.jsonl")
tokens=(--samples 64 --val-samples 8 --seqlen 1024)

evaluate() { # NAME MODEL: both texts, against full precision
    for text in wikitext2_test c4_heldout; do
        "$eqat" eval "$2" --reference "$model" --text "$data/eval/$text.txt" --context 2048 --windows 10 \
            --json -q >"$out/$1.$text.json.tmp"
        mv "$out/$1.$text.json.tmp" "$out/$1.$text.json"
    done
}

row() { # NAME OPTIONS...
    local name=$1
    shift
    [ ! -e "$out/$name.c4_heldout.json" ] || return 0
    if [ ! -e "$out/$name.json" ]; then
        "$eqat" quantize "$model" -o "$out/$name" --group 64 --json -q "$@" >"$out/$name.json.tmp"
        mv "$out/$name.json.tmp" "$out/$name.json"
    fi
    evaluate "$name" "$out/$name"
}

make_row() {
    case $1 in
    full) [ -e "$out/full.c4_heldout.json" ] || evaluate full "$model" ;;
    rtn-w?) row "$1" --method rtn --bits "${1#rtn-w}" --init minmax ;;
    weighted-w?) row "$1" --method rtn --bits "${1#weighted-w}" --init weighted "${calib[@]}" "${tokens[@]}" ;;
    ap-w?) row "$1" --bits "${1#ap-w}" --grid asymmetric --tune-epochs 0 "${calib[@]}" "${tokens[@]}" ;;
    eqat-w?) row "$1" --bits "${1#eqat-w}" "${calib[@]}" "${tokens[@]}" ;;
    fast-w? | default-w? | best-w?) row "$1" --bits "${1#*-w}" --preset "${1%-w?}" "${calib[@]}" ;;
    self-w3) row "$1" --bits 3 --preset fast --embed-bits 8 ;; # README.md's start
    mixed-w3) row "$1" --bits 3 --preset fast --target-bpw 3.297 "${calib[@]}" ;;
    paper-w?) row "$1" --bits "${1#paper-w}" --preset paper --tune-epochs 0 --order concat "${calib[@]}" "${tokens[@]}" ;;
    *) echo "no row $1" >&2 && exit 2 ;;
    esac
}

show() {
    local q=$out/$1.json
    python3 - "$1" "$q" "$out/$1.wikitext2_test.json" "$out/$1.c4_heldout.json" <<'PY'
import json, os, sys
name, made, wiki, c4 = sys.argv[1:]
q = json.load(open(made)) if os.path.exists(made) else {}
w, c = json.load(open(wiki)), json.load(open(c4))
made = '%.1f | %d | %.3f' % (q['seconds'] / 60, q['peak_memory'] / 2**20, q['bits_per_weight']) if q else '| |'
print('| %s | %.3f | %.4f | %.3f | %.4f | %.3f | %s |' % (name, w['perplexity'], w['kl'], c['perplexity'], c['kl'],
      c['top1'], made))
PY
}

mkdir -p "$out"
rows=("$@")
[ $# -gt 0 ] || rows=(full rtn-w4 rtn-w3 rtn-w2 weighted-w4 weighted-w3 weighted-w2 ap-w2 ap-w3 paper-w3
    eqat-w2 eqat-w3 eqat-w4)
for r in "${rows[@]}"; do make_row "$r"; done
echo "| row | wikitext2 ppl | KL | c4 ppl | KL | top-1 (c4) | minutes | peak MiB | bits per weight |"
echo "|---|---|---|---|---|---|---|---|---|"
for r in "${rows[@]}"; do show "$r"; done
