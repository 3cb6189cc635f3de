# The embedding and the head at 8 and 4 bits: size, distance, what numpy reads, training behind it,
# kill and resume, refusals.
tiny m --tokenizer --vocabulary 264
tiny t --tokenizer --vocabulary 264 --tied
head -c 3000 "$ROOT/LICENSE" >text.txt

rtn() { # model, folder, option...
    local model=$1 out=$2
    shift 2
    expect 0 quantize "$model" -o "$out" -q --method rtn --init mse --bits 4 --group 32 --json "$@"
}
bytes() { python3 -c 'import json; print(json.load(open(".theme/out"))["bytes"])'; }

# Codes, scales and zero points of [264, 64] in groups of 32, and its g_idx; in F32 before.
packed() { echo $((264 * 64 * $1 / 8 + 264 * 2 * 2 + 264 * 2 * $1 / 8 + 64 * 4)); }
dense=$((264 * 64 * 4))
rtn m m16
full=$(bytes)
out_json 'r["embed_bits"] == 16 and r["head_bits"] == 16'
for bits in 8 4; do
    rtn m m$bits --embed-bits $bits --head-bits $bits
    [ "$(bytes)" -eq $((full - 2 * dense + 2 * $(packed $bits))) ] || complain "$bits bits: $(bytes)"
    out_json "r['embed_bits'] == $bits and r['head_bits'] == $bits and 4 < r['bits_per_weight'] < 5"
    expect 0 inspect m$bits --json
    out_json "r['embed_bits'] == $bits and r['head_bits'] == $bits"
    out_json 'r["bits"] == 4 and r["group"] == 32 and not r["mixed"] and r["bits_per_weight"] < 5'
    grep -q "the embedding has $bits bits, the head has $bits bits" m$bits/README.md ||
        complain "m$bits/README.md says nothing of embedding and head"
done
grep -q 'embedding, head and norms are not quantized' m16/README.md || complain m16/README.md
grep -q embed_bits m16/run/plan.json && complain "older runs, all of 16 bits, would not go on"
rtn m mixed --embed-bits 4 --head-bits 8
[ "$(bytes)" -eq $((full - 2 * dense + $(packed 4) + $(packed 8))) ] || complain "mixed: $(bytes)"
rtn m head --head-bits 8
[ "$(bytes)" -eq $((full - dense + $(packed 8))) ] || complain "head: $(bytes)"
out_json 'r["embed_bits"] == 16 and r["head_bits"] == 8'

# Beside a recipe: overrides for units and for ends, each for itself.
echo '{"rules": [{"modules": ["down_proj"], "bits": 8}]}' >recipe.json
rtn m recipe --embed-bits 8 --head-bits 4 --recipe recipe.json
out_json 'r["mixed"] and r["embed_bits"] == 8 and r["head_bits"] == 4'
expect 0 inspect recipe --json
out_json 'r["mixed"] and r["bits"] == 4 and r["embed_bits"] == 8 and r["head_bits"] == 4'
for text in 'different bits' 'the embedding has 8 bits, the head has 4 bits'; do
    grep -q "$text" recipe/README.md || complain "recipe/README.md does not say: $text"
done

# Little is lost at 8 bits, more at 4.
for bits in 8 4; do
    expect 0 eval m$bits --text text.txt --context 64 --windows 20 --json --precision f32 \
        --reference m16
    cp .theme/out kl$bits
done
python3 - <<'PYTHON' || complain "KL: $(cat kl8 kl4)"
import json, sys
kl8, kl4 = (json.load(open(f"kl{bits}"))["kl"] for bits in (8, 4))
sys.exit(not (0 < kl8 < 1e-3 < kl4 < 0.1))
PYTHON
expect 0 generate mixed --prompt 'This' --max-tokens 8 --temperature 0

# A tied model: one option says it for both.
rtn t t8 --embed-bits 8
small=$(bytes)
out_json 'r["embed_bits"] == 8 and r["head_bits"] == 8'
for options in '--head-bits 8' '--head-bits 8 --embed-bits 8'; do
    # shellcheck disable=SC2086
    rtn t "t${options// /}" $options
    same t8 "t${options// /}"
done
rtn t t16 --embed-bits 16
[ "$(bytes)" -eq $((small + dense - $(packed 8))) ] || complain "tied: $small, $(bytes)"
for options in '--embed-bits 8 --head-bits 4' '--embed-bits 8 --head-bits 16'; do
    # shellcheck disable=SC2086
    expect 2 quantize t -o no -q --method rtn --init mse --bits 4 --group 32 $options
    err_lines 1
    err_has '--embed-bits 8 and --head-bits (4|16)'
done

# What does not fit, or is quantized already.
tiny odd
expect 2 quantize odd -o no -q --method rtn --init mse --bits 4 --group 32 --embed-bits 8
err_has 'vocabulary of 257 at 8 bits'
expect 2 quantize m -o no --method rtn --embed-bits 5
err_has '--embed-bits'
expect 1 quantize head -o no -q --method rtn --init mse --bits 4 --group 32
err_has 'quantized'
[ -e no ] && complain "a refused run left a folder"

# Trained behind it: other options are refused; after --stop-after and kills the same bytes.
tiny m --vocabulary 264
ends_run() { # folder, option...
    local out=$1
    shift
    small_run "$out" --epochs 1 --embed-bits 4 --head-bits 8 --tune-epochs 2 --tune-batch 4 "$@"
}
# shellcheck disable=SC2046  # ends_run gives separate words
expect 0 $(ends_run whole)
[ -z "$(ls whole/run | grep -E 'ends|block|tune')" ] || complain "whole/run keeps $(ls whole/run)"
# shellcheck disable=SC2046
expect 130 $(ends_run part --stop-after 1)
[ -e part/run/ends-embedding.safetensors ] || complain "no embedding in part/run"
# shellcheck disable=SC2046
expect 1 $(ends_run part --embed-bits 8)
err_has 'embed_bits'
# shellcheck disable=SC2046
expect 0 $(ends_run part)
same whole part
hits=0
for moment in 02 05 08 12 16 20 25 30; do
    # shellcheck disable=SC2046
    "$EQAT" $(ends_run killed) >.theme/out 2>.theme/err &
    job=$!
    sleep "0.$moment"
    kill -KILL $job 2>/dev/null
    wait $job 2>/dev/null
    [ $? -eq 137 ] || break
    hits=$((hits + 1))
done
[ $hits -ge 1 ] || complain "no kill hit a running program"
# shellcheck disable=SC2046
expect 0 $(ends_run killed)
same whole killed
# shellcheck disable=SC2046
expect 0 $(small_run full --epochs 1 --tune-epochs 2 --tune-batch 4)
cmp -s whole/model.safetensors full/model.safetensors && complain "nothing was quantized"

# tune reads such a folder and keeps its embedding and head.
expect 0 tune m8 -o tuned -q --reference m --calib m/tokens.npy --samples 8 --val-samples 0 \
    --seqlen 32 --tune-epochs 1 --precision f32 --json
out_json 'r["embed_bits"] == 8 and r["head_bits"] == 8'
python3 - <<'PYTHON' || complain "tune changes embedding or head, or trains nothing"
import json
def read(folder):
    data = open(folder + "/model.safetensors", "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return {k: data[start:][slice(*t["data_offsets"])] for k, t in header.items() if "data_offsets" in t}
old, new = read("m8"), read("tuned")
differ = {k for k in old if old[k] != new[k]}
assert old.keys() == new.keys() and differ
assert not any(k.startswith(("model.embed_tokens", "lm_head")) for k in differ), differ
configs = [json.load(open(f + "/quantize_config.json")) for f in ("m8", "tuned")]
assert configs[0] == configs[1], configs
PYTHON

# numpy reads the same rows, from each kind of folder; a wrong code, scale or zero point is seen.
need_python
tiny m --tokenizer --vocabulary 264
for pair in 'm m8' 'm m4' 'm mixed' 'm recipe' 'm head' 't t8'; do
    set -- $pair
    "$PYTHON" "$ROOT/tests/cli/check_ends.py" "$1" "$2" "$2-dense" || complain "check_ends.py $pair"
    for folder in "$2" "$2-dense"; do
        expect 0 logits "$folder" --tokens 0,263,17,17,200 --precision f32 -o "$folder.npy"
    done
    cmp -s "$2.npy" "$2-dense.npy" || complain "$2: other logits from the matrix that numpy read"
done
for part in qweight scales qzeros; do
    rm -rf wrong
    cp -r mixed wrong
    python3 - $part <<'PYTHON' || complain "nothing to spoil"
import json, sys
data = bytearray(open("wrong/model.safetensors", "rb").read())
start = 8 + int.from_bytes(data[:8], "little")
at = start + json.loads(data[8:start])["lm_head." + sys.argv[1]]["data_offsets"][0]
data[at + 1] ^= 0x40
open("wrong/model.safetensors", "wb").write(data)
PYTHON
    "$PYTHON" "$ROOT/tests/cli/check_ends.py" m wrong wrong-dense 2>/dev/null &&
        complain "check_ends.py does not see a wrong value in $part"
    expect 0 logits wrong --tokens 0,263,17 --precision f32 -o wrong.npy
    expect 0 logits mixed --tokens 0,263,17 --precision f32 -o right.npy
    cmp -s wrong.npy right.npy && complain "a wrong value in $part changes no logits"
done

# The layouts of other programs hold the same, and are not copied to what tune writes.
same_logits() { # folder, folder that repack.py makes of it, its arguments
    "$PYTHON" "$ROOT/tests/cli/repack.py" "$@" >/dev/null || complain "repack.py $*"
    expect 0 logits "$2" --tokens 0,263,17,17,200 --precision f32 -o "$2.npy"
    cmp -s "$1.npy" "$2.npy" || complain "$2: other logits than $1"
    expect 0 inspect "$1" --json
    cp .theme/out wanted
    expect 0 inspect "$2" --json
    python3 - <<'PYTHON' || complain "$2 is not what $1 is: $(cat .theme/out)"
import json, sys
a, b = (json.load(open(f)) for f in ("wanted", ".theme/out"))
sys.exit({**a, "bytes": 0} != {**b, "bytes": 0})
PYTHON
}
for folder in m4 mixed recipe head t8; do same_logits $folder $folder-v1 gptq; done
same_logits m4 m4-eqat eqat --scales F32
must_complain same_logits mixed mixed-planted gptq --plant
for folder in head-v1 m4-eqat; do
    expect 2 tune $folder -o no -q --reference m --calib m/tokens.npy --samples 8 --val-samples 0 \
        --seqlen 32 --tune-epochs 1 --precision f32
    err_has "$folder: (lm_head|model.embed_tokens) is not in version 2 of the GPTQ format"
done
[ -e no ] && complain "a refused run left a folder"
