# Folders in the layouts of other programs: EfficientQAT's, version 1 of GPTQ, AWQ and
# compressed-tensors. They are the same model for every command, and training goes on from them.
need_python
tiny m --tokenizer
head -c 2000 "$ROOT/LICENSE" >text.txt
# Every third row of one linear has no weight below 0, so that there are zero points of 0.
"$PYTHON" - <<'PYTHON' || complain "no rows above 0"
import json
import numpy as np
data = np.fromfile("m/model.safetensors", np.uint8)
n = int(data[:8].view("<u8")[0])
at = json.loads(data[8:8 + n].tobytes())["model.layers.0.self_attn.k_proj.weight"]["data_offsets"]
rows = data[8 + n + at[0]:8 + n + at[1]].view("<f4").reshape(32, 64)
rows[::3] = abs(rows[::3])
data.tofile("m/model.safetensors")
PYTHON
repack() { "$PYTHON" "$ROOT/tests/cli/repack.py" "$@" >>zeros.txt || complain "repack.py $*"; }
# The last stdout is what the folder prints.
cmp_out() { # folder
    cp .theme/out was
    measure "$1"
    cmp -s .theme/out was || complain "$1 has another perplexity"
}
measure() { # folder: its perplexity to .theme/out
    expect 0 eval "$1" --text text.txt --context 64 --windows 5 --json --precision f32
}

for bits in 2 3 4 8; do
    expect 0 quantize m -o q$bits -q --method rtn --init mse --bits $bits --group 32
    measure q$bits
    cp .theme/out wanted
    repack q$bits eqat$bits eqat
    repack q$bits eqat$bits-f32 eqat --scales F32
    repack q$bits v1-$bits gptq
    repack q$bits v1-$bits-old gptq --older
    repack q$bits ct$bits ct
    repack q$bits ct$bits-old ct-old --scales F32
    folders=(eqat$bits eqat$bits-f32 v1-$bits v1-$bits-old ct$bits ct$bits-old)
    if [ $bits -eq 4 ]; then
        repack q4 awq4 awq
        repack q4 round-awq4 awq --auto-round
        folders+=(awq4 round-awq4)
    elif [ $bits -eq 2 ]; then
        repack q2 round-v1-2 gptq --auto-round
        repack q2 round-v2-2 gptq2 --auto-round
        folders+=(round-v1-2 round-v2-2)
    fi
    for folder in "${folders[@]}"; do
        measure "$folder"
        cmp -s .theme/out wanted || complain "$folder has another perplexity than q$bits"
        expect 0 inspect "$folder" --json
        out_json "r['bits'] == $bits and r['group'] == 32"
    done
done
grep -qx 0 zeros.txt && complain "no zero point is 0"
# One code that is not the same is seen.
measure q3
cp .theme/out wanted
for layout in eqat gptq ct; do
    repack q3 planted-$layout $layout --plant
    measure planted-$layout
    cmp -s .theme/out wanted && complain "a wrong code does not change the perplexity"
done
measure q4
cp .theme/out wanted
repack q4 planted-awq awq --plant
measure planted-awq
cmp -s .theme/out wanted && complain "a wrong code does not change the perplexity"
expect 0 generate eqat3 --prompt 'The' --max-tokens 4 --precision f32
cp .theme/out wanted
expect 0 generate q3 --prompt 'The' --max-tokens 4 --precision f32
cmp -s .theme/out wanted || complain "eqat3 says something else than q3"

# Whole rows are recognised although the rows have two lengths.
expect 0 quantize m -o rows -q --method rtn --init mse --bits 3 --group -1
repack rows eqat-rows eqat
expect 0 inspect eqat-rows --json
out_json 'r["bits"] == 3 and r["group"] == -1'
repack rows ct-rows ct
expect 0 inspect ct-rows --json
out_json 'r["bits"] == 3 and r["group"] == -1'

# Columns in activation order are those of a model in full precision that numpy makes.
for layout in gptq gptq2 ct; do
    repack q4 order-$layout $layout --act-order
    repack q4 order-dense-$layout dense --act-order
    measure order-$layout
    cp .theme/out wanted
    measure order-dense-$layout
    cmp -s .theme/out wanted || complain "order-$layout is not what numpy reads"
done
must_complain cmp_out q4
expect 0 logits order-ct --tokens 1,2,3 -o order.npy --precision f32

# A symmetric grid has no zero points in compressed-tensors, and bits may differ by module.
expect 0 quantize m -o symmetric -q --method rtn --init mse --bits 2 --group 32 --grid symmetric
measure symmetric
cp .theme/out wanted
repack symmetric ct-symmetric ct
measure ct-symmetric
cmp -s .theme/out wanted || complain "ct-symmetric has another perplexity"
cat >recipe.json <<'JSON'
{"rules": [{"modules": ["down_proj"], "bits": 4, "group": -1},
           {"layers": "0", "modules": ["gate_proj", "up_proj"], "bits": 8}]}
JSON
expect 0 quantize m -o mixed-ours -q --method rtn --init mse --bits 3 --group 32 --recipe recipe.json
measure mixed-ours
cp .theme/out wanted
repack mixed-ours ct-mixed ct
measure ct-mixed
cmp -s .theme/out wanted || complain "ct-mixed has another perplexity"

# What they are trained to is what ours is trained to, byte by byte.
tune() { # model, folder
    echo tune "$1" -o "$2" --reference m --calib m/tokens.npy --samples 8 --val-samples 2 \
        --seqlen 32 --tune-epochs 1 --ce 0 --precision f32
}
for bits in 2 3 4; do
    layouts=('GPTQ version 2' "EfficientQAT's layout" 'GPTQ version 1')
    for folder in q$bits eqat$bits-f32 v1-$bits-old; do
        # shellcheck disable=SC2046
        expect 0 $(tune "$folder" "tuned-$folder")
        err_has "^plan: $folder has $bits bits in groups of 32, ${layouts[0]}\$"
        layouts=("${layouts[@]:1}")
        same "tuned-q$bits" "tuned-$folder"
    done
    must_complain same q$bits tuned-q$bits
done
# shellcheck disable=SC2046
for folder in ct2-old ct4 awq4; do
    expect 0 $(tune "$folder" "tuned-$folder")
    bits=${folder//[^0-9]/}
    same "tuned-q$bits" "tuned-$folder"
done
# shellcheck disable=SC2046
expect 0 $(tune symmetric tuned-symmetric)
# shellcheck disable=SC2046
expect 0 $(tune ct-symmetric tuned-ct-symmetric)
same tuned-symmetric tuned-ct-symmetric

# A run knows its model: another one under the same name is not what it goes on with.
rm -r eqat3-f32
mv planted-eqat eqat3-f32
# shellcheck disable=SC2046
expect 1 $(tune eqat3-f32 tuned-eqat3-f32)
err_has 'model'

# What is not read is refused by name.
# shellcheck disable=SC2046
expect 1 $(tune order-ct tuned-order)
err_has 'order-ct: block 0: columns in activation order .* are not trained'
err_lines 1
refuse() { # name, folder, what is put into quantization_config, message
    cp -r "$2" "$1"
    "$PYTHON" - "$1/config.json" "$3" <<'PYTHON' || complain "no $1"
import json, sys
config = json.load(open(sys.argv[1]))
config["quantization_config"].update(json.loads(sys.argv[2]))
json.dump(config, open(sys.argv[1], "w"))
PYTHON
    expect 1 eval "$1" --text text.txt --context 64
    err_has "$1: $4"
    err_lines 1
}
refuse gemv awq4 '{"version": "gemv"}' 'AWQ version "gemv" is not read'
refuse cache ct4 '{"kv_cache_scheme": {"num_bits": 8}}' '.*has kv_cache_scheme'
refuse sparse ct4 '{"format": "marlin-24"}' '.*format "marlin-24" is not read'
refuse unknown q4 '{"quant_method": "hqq"}' 'quantization method hqq is not read'
mkdir mixed
cp eqat2/* mixed
"$PYTHON" - <<'PYTHON' || complain "no mix of bits"
import json
def read(path):
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    return {k: (e, data[8 + n:][slice(*e["data_offsets"])])
            for k, e in json.loads(data[8:8 + n]).items()}
tensors = read("eqat2/model.safetensors")
name = "model.layers.1.mlp.up_proj."
tensors.update((k, t) for k, t in read("eqat4/model.safetensors").items() if k.startswith(name))
header, at = {}, 0
for k, (e, data) in tensors.items():
    header[k] = {**e, "data_offsets": [at, at + len(data)]}
    at += len(data)
text = json.dumps(header).encode()
open("mixed/model.safetensors", "wb").write(
    len(text).to_bytes(8, "little") + text + b"".join(data for _, data in tensors.values()))
PYTHON
expect 1 inspect mixed
err_has 'mixed: model\.layers\.1\.mlp\.up_proj\.qweight .* another number of bits'
err_lines 1
