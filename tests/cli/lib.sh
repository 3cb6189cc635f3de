# What the themes are written with. Complaints go to stderr; the theme runs to its end, then the
# number of complaints decides. Sourced by run.sh, which sets EQAT, MODEL, PYTHON, ROOT and WORK.
complaints=0

# Count a complaint and print it with the line of the theme that it belongs to.
complain() {
    local frame=1
    complaints=$((complaints + 1))
    while [[ ${BASH_SOURCE[frame]} == */lib.sh ]]; do frame=$((frame + 1)); done
    echo "${BASH_SOURCE[frame]##*/}:${BASH_LINENO[frame - 1]}: $*" >&2
}

finish() {
    [ "$complaints" -eq 0 ] && exit 0
    echo "$complaints complaints" >&2
    exit 1
}

# Leave out the rest of the theme; what came before it still counts.
skip() {
    [ "$complaints" -eq 0 ] || finish
    echo "skipped: $*"
    exit 77
}

need_model() { [ -f "$MODEL" ] || skip "no $MODEL (make model)"; }
need_python() { "$PYTHON" -c '' 2>/dev/null || skip "no .venv (make test makes it)"; }

# eqat, its output kept in .theme/out and .theme/err
eqat() { "$EQAT" "$@" >.theme/out 2>.theme/err; }

# expect CODE ARGUMENT...: eqat with these arguments ends with this exit code
expect() {
    local wanted=$1 code
    shift
    eqat "$@"
    code=$?
    [ "$code" -eq "$wanted" ] && return 0
    complain "eqat $*: exit code $code, expected $wanted; stderr: $(head -c 2000 .theme/err)"
    return 1
}

out_has() { grep -qE -- "$1" .theme/out || complain "stdout has no /$1/: $(head -c 500 .theme/out)"; }
err_has() { grep -qE -- "$1" .theme/err || complain "stderr has no /$1/: $(head -c 500 .theme/err)"; }
out_lines() {
    local lines
    lines=$(wc -l <.theme/out)
    [ "$lines" -eq "$1" ] || complain "stdout has $lines lines, expected $1"
}
err_lines() {
    local lines
    lines=$(wc -l <.theme/err)
    [ "$lines" -eq "$1" ] || complain "stderr has $lines lines, expected $1: $(cat .theme/err)"
}

# out_json EXPRESSION: the last stdout as JSON, called r, makes the Python expression true
out_json() {
    python3 -c 'import json, math, sys
r = json.load(open(".theme/out"))
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1" 2>.theme/json ||
        complain "JSON is not so: $1: $(head -c 500 .theme/out) $(tail -n 1 .theme/json)"
}

# field NAME: that value of the JSON object on stdout
field() { python3 -c 'import json, sys; print(json.load(open(".theme/out"))[sys.argv[1]])' "$1"; }

# must_complain CHECK ARGUMENT...: the check complains about the wrong value it is given, once
planted=0
must_complain() {
    local before=$complaints
    "$@" 2>/dev/null
    planted=$((planted + 1))
    if [ "$complaints" -eq "$((before + 1))" ]; then
        complaints=$before
    else
        complain "no complaint from: $*"
    fi
}

# same FOLDER FOLDER: the two models have the same tensors and the same configuration, byte by byte
same() {
    local file name count=0
    for file in "$1"/*.safetensors "$1"/config.json; do
        name=${file##*/}
        cmp -s "$file" "$2/$name" || complain "$file and $2/$name differ"
        count=$((count + 1))
    done
    [ "$count" -ge 2 ] || complain "$1 holds no model"
    [ "$(ls "$1"/*.safetensors | wc -l)" -eq "$(ls "$2"/*.safetensors | wc -l)" ] ||
        complain "$1 and $2 have other numbers of files"
}

# has_bf16 MODEL: this CPU multiplies bf16
has_bf16() {
    "$EQAT" logits "$1" --tokens 1 -o .theme/bf16.npy -q --precision bf16 >.theme/out 2>.theme/err &&
        return 0
    grep -q 'no bf16 products' .theme/err || complain "bf16: $(cat .theme/err)"
    return 1
}

# tiny FOLDER OPTION...: a small random Llama model, see make_model.py
tiny() { python3 "$ROOT/tests/cli/make_model.py" "$@" || complain "make_model.py $*"; }

# small_run OUT OPTION...: arguments of a short training run on the model of `tiny m`
small_run() {
    local out=$1
    shift
    echo quantize m -o "$out" -q --bits 2 --group 32 --calib m/tokens.npy --samples 16 \
        --val-samples 4 --seqlen 32 --batch 2 --precision f32 --tune-epochs 0 "$@"
}

# measure MODEL: its perplexity on text.txt to .theme/out
measure() { expect 0 eval "$1" --text text.txt --context 64 --windows 5 --json --precision f32; }
# same_model MODEL MODEL: the same perplexity, so the same weights and ids
same_model() {
    measure "$1"
    cp .theme/out wanted
    measure "$2"
    cmp -s .theme/out wanted || complain "$2 has another perplexity than $1: $(cat .theme/out)"
}
