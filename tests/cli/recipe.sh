# Bits by unit: recipes, bits chosen for a mean, what the folder says about them, runs that go on.
tiny m --tokenizer
cat >recipe.json <<'JSON'
{"comment": "every bits, two groups, whole rows",
 "rules": [
   {"modules": ["down_proj"], "bits": 4},
   {"layers": "0,2", "modules": ["q_proj", "k_proj", "v_proj"], "bits": 3, "group": -1},
   {"layers": "1-2", "modules": ["gate_proj", "up_proj"], "group": 16},
   {"layers": "1", "modules": ["o_proj"], "bits": 8}]}
JSON
# The names and values of `dynamic` are those of the tensors, as GPTQModel and vLLM look them up.
cat >dynamic.py <<'PYTHON'
import json, re, sys
folder = sys.argv[1]
config = json.load(open(folder + "/config.json"))["quantization_config"]
assert config == json.load(open(folder + "/quantize_config.json"))
data = open(folder + "/model.safetensors", "rb").read()
header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
dynamic, used = config.get("dynamic", {}), set()
def said(module):
    for key, value in dynamic.items():
        if re.match(key.removeprefix("+:"), module):
            used.add(key)
            return value["bits"], value["group_size"]
    return config["bits"], config["group_size"]
for name in header:
    if not name.endswith(".qweight"):
        continue
    module = name.removesuffix(".qweight")
    shape = {end: header[f"{module}.{end}"]["shape"] for end in ("qweight", "qzeros", "scales")}
    N = shape["qweight"][1]
    bits = shape["qzeros"][1] * 32 // N
    K = shape["qweight"][0] * 32 // bits
    group = K // shape["scales"][0]
    wanted = said(module)
    assert (bits, group) == (wanted[0], K if wanted[1] == -1 else wanted[1]), (module, wanted)
    fused = re.sub(r"\b[qkv]_proj", "qkv_proj", re.sub("(gate|up)_proj", "gate_up_proj", module))
    assert said(fused) == wanted, fused
assert used == dynamic.keys(), dynamic.keys() - used
PYTHON
dynamic() { python3 dynamic.py "$1" 2>.theme/python; }

recipe_run() { # folder, option...: blocks and end-to-end phase of a short run
    # shellcheck disable=SC2046
    small_run "$@" --recipe recipe.json --epochs 1 --tune-epochs 2 --tune-batch 4
}

# Every kind of end-to-end training takes the units' own grids; the folder says what they are.
for what in scales norms all; do
    # shellcheck disable=SC2046
    expect 0 $(recipe_run $what --tune $what --json)
    out_json 'r["bits"] == 2 and r["group"] == 32 and r["mixed"] and 3 < r["bits_per_weight"] < 4'
    dynamic $what || complain "$what: $(tail -n 1 .theme/python)"
    expect 0 inspect $what --json
    out_json 'r["bits"] == 2 and r["group"] == 32 and r["mixed"] and 3 < r["bits_per_weight"] < 4'
done
grep -q 'different bits' norms/README.md || complain "norms/README.md"
expect 0 inspect norms
out_has 'mixed'
seq 400 >text.txt
expect 0 eval norms --text text.txt --context 64 --reference m --json
out_json 'r["kl"] > 0'
expect 0 tune norms -o again -q --reference m --calib m/tokens.npy --samples 16 --val-samples 4 \
    --seqlen 32 --tune-epochs 1 --precision f32 --json
out_json 'r["mixed"] and 3 < r["bits_per_weight"] < 4'
dynamic again || complain "again: $(tail -n 1 .theme/python)"

# A recipe without rules is the plain run.
# shellcheck disable=SC2046
expect 0 $(small_run plain --epochs 1)
echo '{"rules": []}' >empty.json
# shellcheck disable=SC2046
expect 0 $(small_run none --epochs 1 --recipe empty.json --json)
out_json 'not r["mixed"]'
same plain none
grep -q dynamic plain/config.json && complain "a plain model has dynamic"

# Planted: a value that is not that of the tensors, and one that is absent.
for change in 's/"bits": 4/"bits": 3/' 's/"group_size": 16/"group_size": 32/' 's/down_proj/dawn_proj/'; do
    rm -rf planted
    cp -r norms planted
    sed -i "0,/dynamic/b; $change" planted/config.json planted/quantize_config.json
    cmp -s planted/config.json norms/config.json && complain "$change changed nothing"
    dynamic planted && complain "dynamic.py does not see $change"
    expect 1 inspect planted
    err_has 'planted: model\.layers\..*expected'
done

# It goes on with the same recipe in whatever words, not with another.
# shellcheck disable=SC2046
expect 130 $(recipe_run part --stop-after 1 --streams file)
cp recipe.json words.json
sed -i 's/"0,2"/"0, 2-2"/; s/"comment": "[^"]*",//' recipe.json
# shellcheck disable=SC2046
expect 130 $(recipe_run part --stop-after 1 --streams file)
# shellcheck disable=SC2046
expect 0 $(recipe_run part --threads 1)
same norms part
sed 's/"bits": 8/"bits": 4/' words.json >recipe.json
# shellcheck disable=SC2046
expect 1 $(recipe_run part)
err_has 'recipe'
cp words.json recipe.json

# What is wrong is named by file and rule, before anything is made.
refused() { # text that the message must have, then the rules
    echo "{\"rules\": [{\"bits\": 4}, $2]}" >bad.json
    expect 1 quantize m -o no -q --method rtn --init minmax --group 32 --recipe bad.json
    err_lines 1
    err_has "^eqat: bad.json: $1"
}
refused 'rule 2: known keys' '{"bit": 4}'
refused 'rule 2: modules are q_proj' '{"modules": ["qkv"], "bits": 4}'
refused 'rule 2: the model has layers 0 to 2' '{"layers": "1-3", "bits": 4}'
refused 'block 1: k_proj has 4 bits .* v_proj 3' '{"layers": "1", "modules": ["v_proj"], "bits": 3}'
expect 2 quantize m -o no -q --method rtn --init minmax --group 32 --recipe recipe.json --target-bpw 3
expect 2 quantize m -o no -q --method rtn --init minmax --bits 2 --group 32 --target-bpw 2.5 \
    --calib m/tokens.npy --samples 16 --seqlen 32
err_has 'least in groups of 32 is 2.562'
[ -e no ] && complain "a refusal left a folder"

# Bits chosen for a mean: within it and near it, less loss with more bits; as a recipe they give the
# same model, as a run that was stopped and as one with other threads.
target_run() { # folder, option...
    # shellcheck disable=SC2046
    small_run "$@" --epochs 1
}
for target in 2.6 3 3.5 4.6 9; do
    # shellcheck disable=SC2046
    expect 0 $(target_run "t$target" --target-bpw $target --json)
    out_json "min($target, 8.75) - 0.3 < r['bits_per_weight'] <= $target"
    dynamic "t$target" || complain "t$target: $(tail -n 1 .theme/python)"
done
python3 - <<'PYTHON' || complain "the sensitivities are not those of a model"
import json
lines = [json.loads(line) for line in open("t3/run/log.jsonl")]
lines = [line for line in lines if line.get("event") == "sensitivity"]
assert len(lines) == 3 * 4 and {line["block"] for line in lines} == {0, 1, 2}
assert all(a > b > 0 for line in lines for a, b in zip(line["kl"], line["kl"][1:]))
PYTHON
# Memory that is too little for any bits is said before they are measured.
# shellcheck disable=SC2046
expect 1 $(target_run none-left --target-bpw 3 --tune-epochs 1 --tune all --memory 1500K --streams file)
err_has 'the end-to-end phase needs .*, or --tune scales, or --tune-epochs 0$'
[ -e none-left ] && complain "a run that does not fit was begun"
# shellcheck disable=SC2046
expect 0 $(target_run given --recipe t3/run/recipe.json)
same t3 given
# shellcheck disable=SC2046
expect 130 $(target_run stopped --target-bpw 3 --stop-after 1)
# shellcheck disable=SC2046
expect 1 $(target_run stopped --target-bpw 3.5)
err_has 'target_bpw'
# shellcheck disable=SC2046
expect 0 $(target_run stopped --target-bpw 3 --threads 1)
same t3 stopped
rm t3/run/{recipe.json,plan.json,log.jsonl} t3/*.* # only the folder, as a kill before the choice leaves it
# shellcheck disable=SC2046
expect 0 $(target_run t3 --target-bpw 3 --threads 1)
same t3 stopped
rounded() { # folder, option...
    echo quantize m -o "$1" -q --method rtn --init minmax --bits 2 --group 32 --target-bpw 3 \
        --calib m/tokens.npy --samples 16 --seqlen 32 --precision f32 "${@:2}"
}
# shellcheck disable=SC2046
expect 0 $(rounded rtn --json)
out_json '2.5 < r["bits_per_weight"] <= 3'
# Blocks that were finished with other bits than the recipe has now are not written.
(
    trap '' XFSZ
    ulimit -f 60 # room for the blocks, not for the model
    # shellcheck disable=SC2046
    "$EQAT" $(rounded swapped) >.theme/out 2>.theme/err
) && complain "no disk was full"
sed 's/"bits": 2/"bits": 8/' swapped/run/recipe.json >other.json
cmp -s other.json swapped/run/recipe.json && complain "no bits to change"
mv other.json swapped/run/recipe.json
# shellcheck disable=SC2046
expect 1 $(rounded swapped)
err_has 'swapped/run/.*block'
[ -e swapped/model.safetensors ] && complain "wrote blocks of other bits"
