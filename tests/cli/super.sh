# Super-blocks of ggml's K types: trained, resumed, tuned, exported without loss, and read by others.
tiny m --wide --tokenizer --vocabulary 264 --blocks 2
head -c 3000 "$ROOT/LICENSE" >text.txt

k_run() { # folder, grid, option...: blocks and end-to-end phase of a short run
    local out=$1 grid=$2
    shift 2
    echo quantize m -o "$out" -q --grid "$grid" --target gguf --calib text.txt --samples 32 \
        --val-samples 4 --seqlen 64 --batch 2 --precision f32 --epochs 3 --ce 0 --tune-epochs 2 "$@"
}

# A row of 256 weights takes 84, 110 and 144 bytes. The folder, the file beside it and the file that
# export makes of the folder are one model; training comes nearer to the original than rounding.
for case in q2_k:2:16:2.625 q3_k:3:16:3.4375 q4_k:4:32:4.5; do
    IFS=: read -r grid bits group size <<<"$case"
    # shellcheck disable=SC2046
    expect 0 $(k_run $grid $grid --json)
    out_json "r['bits'] == $bits and r['group'] == $group and not r['mixed']"
    out_json "abs(r['bits_per_weight'] - $size) < 1e-9 and r['gguf'] == '$grid/model.gguf'"
    expect 0 inspect $grid --json
    out_json "r['bits'] == $bits and r['group'] == $group and r['bits_per_weight'] == $size"
    expect 0 inspect $grid/model.gguf --json
    out_json "r['bits_per_weight'] == $size"
    same_model $grid $grid/model.gguf
    expect 0 export $grid -o $grid.gguf --format gguf -q
    cmp -s $grid.gguf $grid/model.gguf || complain "$grid.gguf and $grid/model.gguf differ"
    # shellcheck disable=SC2046
    expect 0 $(k_run $grid-rtn $grid --method rtn --init mse --tune-epochs 0)
    for folder in $grid $grid-rtn; do
        expect 0 eval $folder --text text.txt --context 64 --windows 10 --json --precision f32 \
            --reference m
        field kl >kl-$folder
    done
    python3 -c "import sys; sys.exit(not float(open('kl-$grid').read()) < \
        float(open('kl-$grid-rtn').read()))" || complain "$grid: $(cat kl-$grid kl-$grid-rtn)"
done
grep -q "Super-blocks of ggml's K types" q2_k/README.md || complain "$(head -n 20 q2_k/README.md)"
grep -q '"quant_method": "eqat"' q2_k/config.json || complain "q2_k says that it is $(cat q2_k/config.json)"

# The gguf package finds the types and the numbers of the folder made dense.
if [ -x "$PYTHON" ]; then
    cat >compare.py <<'PYTHON'
import sys
import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import load_file
grid, count = sys.argv[1], 0
dense = load_file(f"{grid}-dense/model.safetensors")
for t in GGUFReader(f"{grid}/model.gguf").tensors:
    if t.name.endswith("ffn_down.weight") or t.name.endswith("ffn_up.weight"):
        assert t.tensor_type.name == grid.upper(), t.tensor_type
        part = "down" if "down" in t.name else "up"
        want = dense[f"model.layers.{t.name.split('.')[1]}.mlp.{part}_proj.weight"]
        got = dequantize(t.data, t.tensor_type)
        assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max(), t.name
        count += 1
assert count == 4
PYTHON
    for grid in q2_k q3_k q4_k; do
        expect 0 export $grid -o $grid-dense --format dense --dtype f32 -q
        "$PYTHON" compare.py $grid || complain "$grid: the gguf package reads other numbers"
    done
fi

# Cut short and gone on with, other threads: the same bytes.
# shellcheck disable=SC2046
expect 130 $(k_run cut q2_k --stop-after 1 --threads 1)
# shellcheck disable=SC2046
expect 0 $(k_run cut q2_k --threads 3)
same q2_k cut

# A finished model is trained on; every weight through the rounding too.
for what in scales all; do
    expect 0 tune q2_k -o tuned-$what -q --reference m --calib m/tokens.npy --samples 16 \
        --val-samples 4 --seqlen 32 --tune $what --tune-epochs 2 --precision f32 --json
    out_json 'r["bits"] == 2 and r["group"] == 16 and r["bits_per_weight"] == 2.625'
    expect 0 eval tuned-$what --text text.txt --context 64 --windows 2 --precision f32 -q
done
expect 0 export tuned-scales -o tuned.gguf --format gguf -q
same_model tuned-scales tuned.gguf
# shellcheck disable=SC2046
expect 0 $(k_run all q2_k --tune all)
same_model all all/model.gguf

# Every unit keeps its own kind of grid in a training that changes nothing.
echo '{"rules": [{"modules": ["o_proj", "down_proj"], "grid": "symmetric"}]}' >kinds.json
expect 0 quantize m -o kinds -q --method rtn --init mse --bits 4 --group 32 --grid asymmetric \
    --recipe kinds.json
for what in scales all; do
    expect 0 tune kinds -o kinds-$what -q --calib text.txt --samples 2 --val-samples 1 --seqlen 32 \
        --kl 0 --ce 1 --tune $what --tune-epochs 1 --precision f32 --tune-scale-lr 1e-12 \
        --tune-norm-lr 1e-12 --tune-weight-lr 1e-12
done
same_model kinds-scales kinds-all

# Grids of single modules; where rows are no super-blocks, plain blocks take their place.
echo '{"rules": [{"modules": ["down_proj"], "grid": "q4_k"},
    {"modules": ["o_proj"], "grid": "symmetric", "bits": 4, "group": 32}]}' >recipe.json
# shellcheck disable=SC2046
expect 0 $(k_run mixed q2_k --recipe recipe.json --json)
out_json 'r["mixed"] and 2.625 < r["bits_per_weight"] < 4.5'
same_model mixed mixed/model.gguf
expect 0 generate mixed --prompt 'This' --max-tokens 4 --temperature 0
echo '{"rules": [{"layers": "1", "modules": ["up_proj", "gate_proj"], "grid": "q3_k"}]}' >recipe.json
# shellcheck disable=SC2046
expect 0 $(k_run layers symmetric --bits 4 --recipe recipe.json)
same_model layers layers/model.gguf
for command in inspect "tune --reference m --calib text.txt --samples 4 --val-samples 2 --seqlen 32 \
    --tune-epochs 1 --precision f32 -q -o layers-tuned"; do
    # shellcheck disable=SC2086
    expect 0 $command layers --json
    out_json 'r["mixed"] and r["bits"] == 4 and r["group"] == 32'
done
grep -q "Super-blocks of ggml's K types and GPTQ-v2 tensors" layers/README.md || complain layers/README.md
tiny n --tokenizer --vocabulary 264 --blocks 1
expect 0 quantize n -o narrow --method rtn --init mse --grid q2_k --target gguf --json
err_has 'no whole super-blocks.*Q2_0 or Q4_0 instead of q2_k'
out_json 'r["bits_per_weight"] > 2.2'
expect 0 quantize n -o narrow3 --method rtn --init mse --target gguf --bits 3 --json
out_json 'r["bits"] == 4 and r["group"] == 32 and not r["mixed"]'
grep -q '"quant_method": "gptq"' narrow3/config.json || complain "narrow3 has no super-blocks"
for options in '--grid symmetric' '--group 64 --grid asymmetric' '--group 32'; do
    # shellcheck disable=SC2086
    expect 0 quantize m -o plain3 -q --method rtn --init mse --target gguf --bits 3 $options
    same_model plain3 plain3/model.gguf
    rm -r plain3
done

# What cannot be is said before anything is done.
expect 2 quantize m -o bad --grid q3_k --bits 2 --calib m/tokens.npy
err_has 'q3_k has 3 bits in groups of 16, not 2 and 16'
expect 2 quantize m -o bad --grid q4_k --target-bpw 4 --calib m/tokens.npy
err_has 'not super-blocks'
expect 2 quantize m -o bad --bits 4 --group 16 --target gguf --calib m/tokens.npy
err_has 'no ggml type of about its size holds 4 bits in groups of 16, symmetric'
echo '{"rules": [{"modules": ["o_proj"], "grid": "symmetric"}]}' >recipe.json
expect 2 quantize m -o bad --grid q3_k --target gguf --recipe recipe.json --calib m/tokens.npy
err_has 'block 0: self_attn.o_proj: no ggml type .* 3 bits in groups of 16'
echo '{"rules": [{"modules": ["down_proj"], "bits": 4}]}' >recipe.json
expect 1 quantize m -o bad --grid q2_k --recipe recipe.json --calib m/tokens.npy
err_has 'other bits or groups need another grid than "q2_k"'
echo '{"rules": [{"grid": "q9"}]}' >recipe.json
expect 1 quantize m -o bad --recipe recipe.json --calib m/tokens.npy
err_has 'grid must be .*, not "q9"'
[ -e bad ] && complain "a refused run left a folder"
for format in gptq awq eqat compressed-tensors; do
    expect 2 export q2_k -o bad --format $format
    err_has "is in ggml's blocks"
done
expect 1 quantize q2_k -o bad --calib m/tokens.npy
err_has 'is quantized to 2 bits already'

# Another kind of grid is another run, whether it has other bits or not.
echo '{"rules": [{"modules": ["down_proj"], "bits": 8}]}' >recipe.json
k_other() { echo quantize m -o other -q --bits 4 --grid asymmetric --group 32 --calib text.txt --samples 4 \
    --val-samples 1 --seqlen 32 --precision f32 --recipe recipe.json; }
# shellcheck disable=SC2046
expect 130 $(k_other) --stop-after 1
echo '{"rules": [{"modules": ["down_proj"], "bits": 8, "grid": "symmetric"}]}' >recipe.json
# shellcheck disable=SC2046
expect 1 $(k_other)
err_has 'recipe'

# A tensor of another size or type is refused by name; scales of 0 are not trained.
python3 - <<'PYTHON'
import json, shutil
for name in "short", "type", "zeros":
    shutil.copytree("q2_k", name)
    data = open("q2_k/model.safetensors", "rb").read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    tensor = header["model.layers.1.mlp.up_proj.q2_k"]
    if name == "short":
        tensor["shape"] = [256, 168]
    elif name == "zeros":
        at = 8 + n + tensor["data_offsets"][0]
        data = data[:at] + b"\x10" + data[at + 1:]
    else:
        tensor.update({"dtype": "I32", "shape": [512, 21]})
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(name + "/model.safetensors", "wb").write(len(text).to_bytes(8, "little") + text + data[8 + n:])
PYTHON
expect 1 inspect short
err_has 'up_proj.q2_k is 2-dimensional \[256, 168\], expected \[512, 84\]'
expect 1 inspect type
err_has 'up_proj.q2_k is I32, expected U8'
expect 0 eval zeros --text text.txt --context 64 --windows 1 --precision f32 -q
expect 1 tune zeros -o bad -q --reference m --calib text.txt --samples 2 --val-samples 1 --seqlen 32
err_has 'zeros: block 1: a scale in the super-blocks of a linear is 0'
