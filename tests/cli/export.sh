# eqat export: every format holds the same numbers; what it cannot hold is refused by name.
tiny m --tokenizer --vocabulary 264
tiny wide --tokenizer --vocabulary 264 --wide --blocks 1
head -c 2000 "$ROOT/LICENSE" >text.txt

# Constants that need every digit, and a tokenizer that is not read here.
cp -r m odd
sed -i 's/"rms_norm_eps": 1e-05/"rms_norm_eps": 3.0517578125e-05/' odd/config.json
expect 0 export odd -o odd.gguf -q
cp -r m pieces
mv pieces/tokenizer.json pieces/tokenizer.model
expect 0 export pieces -o pieces-dense --format dense -q
cmp -s pieces/tokenizer.model pieces-dense/tokenizer.model || complain "tokenizer.model is gone"

rtn() { # model, folder, bits, grid, group, option...
    local model=$1 out=$2 bits=$3 grid=$4 group=$5
    shift 5
    expect 0 quantize "$model" -o "$out" -q --method rtn --init mse --bits "$bits" --grid "$grid" \
        --group "$group" "$@"
}
# positive MODEL TENSOR: no weight of the tensor is below 0, so that its zero points are 0
positive() {
    python3 - "$@" <<'PYTHON' || complain "no tensor $2"
import json, struct, sys
with open(sys.argv[1] + "/model.safetensors", "r+b") as file:
    size = struct.unpack("<Q", file.read(8))[0]
    at = json.loads(file.read(size))[sys.argv[2]]["data_offsets"]
    file.seek(8 + size + at[0])
    rows = struct.unpack(f"<{(at[1] - at[0]) // 4}f", file.read(at[1] - at[0]))
    file.seek(8 + size + at[0])
    file.write(struct.pack(f"<{len(rows)}f", *map(abs, rows)))
PYTHON
}
# gguf FOLDER BITS [OPTION]...: exported, so many bits per weight, no difference, the same model
gguf() {
    local folder=$1 bits=$2
    shift 2
    expect 0 export "$folder" -o "$folder$*.gguf" -q --json "$@"
    out_json "r['bits_per_weight'] == $bits and r['tokens'] > 0"
    out_json "r['largest_error'] == 0 and r['error_bound'] == 0"
    same_model "$folder" "$folder$*.gguf"
}

rtn wide q2 2 symmetric 64 --embed-bits 8 --head-bits 4
gguf q2 2.25
rtn m q3 3 asymmetric 32
gguf q3 4.5
rtn m q4s 4 symmetric 32 --embed-bits 4 --head-bits 8
gguf q4s 4.5
rtn m q8 8 symmetric 32
gguf q8 8.5
# Zero points other than 1 and 2 need Q2_K: one linear of seven here.
positive wide model.layers.0.mlp.up_proj.weight
rtn wide k2 2 asymmetric -1
gguf k2 2.333333333
rtn wide k3 3 symmetric 256
gguf k3 3.4375
rtn wide k4 4 asymmetric 256
gguf k4 4.5
gguf m 32

# 4 bits with zero points: rounded offsets within the bound that is printed, or none with --exact.
rtn m q4 4 asymmetric 32
expect 0 export q4 -o q4.gguf -q --json
out_json 'r["bits_per_weight"] == 5 and 0 < r["largest_error"] <= r["error_bound"] < 1e-3'
gguf q4 5.5 --exact

# Nothing that holds it, or only something large.
rtn m q2a 2 asymmetric 32
expect 2 export q2a -o no.gguf -q
err_has 'q_proj exactly is Q4_0.*--allow-larger.*quantize --bits 2 --grid symmetric --group 64'
gguf q2a 4.5 --allow-larger
rtn m q8a 8 asymmetric 32
expect 2 export q8a -o no.gguf -q --allow-larger
err_has 'no ggml type holds .*quantize --bits 8 --grid symmetric'
tiny bare
expect 2 export bare -o no.gguf -q
err_has 'bare: has no tokenizer'
expect 2 export q3 -o q3 -q
err_has 'q3: is there already'

# A GGUF file again, from itself: metadata and tensors are carried over.
expect 0 export q2.gguf -o again.gguf -q
cmp -s q2.gguf again.gguf || complain "a GGUF file exported again is another one"

# Ids without a token, which GGUF files give names, are none in a folder either.
tiny padded --tokenizer --vocabulary 270
expect 0 export padded -o padded.gguf -q
expect 0 export padded.gguf -o padded-dense -q --format dense --dtype f32
grep -q PAD padded-dense/tokenizer.json && complain "unused ids have become tokens"
expect 0 quantize padded.gguf -o padded-q -q --method rtn --init mse --bits 4 --group 32
grep -q PAD padded-q/tokenizer.json && complain "unused ids have become tokens"

# Folders: the same codes, in one file or several.
for options in '' '--gptq-version 1' '--shard-size 20K'; do
    for folder in q3 q4s k3; do
        out="$folder-gptq${options// /}"
        # shellcheck disable=SC2086
        expect 0 export $folder -o "$out" -q --format gptq --json $options
        out_json 'r["largest_error"] == 0 and r["error_bound"] == 0'
        same_model $folder "$out"
    done
done
[ "$(ls q3-gptq--shard-size20K/*.safetensors | wc -l)" -ge 3 ] || complain "no shards"
python3 - <<'PYTHON' || complain "gptq: other settings than quantize writes"
import json
read = lambda f: json.load(open(f + "/config.json"))
for folder in ("q3", "q4s", "k3"):
    assert read(folder) == read(folder + "-gptq"), folder
assert read("q3-gptq--gptq-version1")["quantization_config"]["checkpoint_format"] == "gptq"
PYTHON
rtn m z 2 asymmetric 32
positive m model.layers.1.mlp.up_proj.weight
rtn m zero 4 asymmetric 32
expect 2 export zero -o no -q --format gptq --gptq-version 1
err_has 'model.layers.1.mlp.up_proj has a zero point of 0'
expect 2 export m -o no -q --format gptq
err_has 'm: is not quantized'

for dtype in f16 bf16 f32; do
    expect 0 export q4 -o dense-$dtype -q --format dense --dtype $dtype --json
    out_json "r['largest_error'] <= r['error_bound'] < 0.01 and r['tokens'] > 0"
done
out_json 'r["error_bound"] == 0'
same_model q4 dense-f32
mkdir slash
expect 0 export q4 -o slash/dense// -q --format dense --dtype f32
same slash/dense dense-f32
[ "$(ls slash)" = dense ] || complain "left behind: $(ls slash)"
grep -q quantization_config dense-f32/config.json && complain "a dense model says it is quantized"

# What was there stays, and nothing half-written is left.
[ -e no ] || [ -e no.gguf ] && complain "a refused export left an output"
for size in 8 100; do
    (
        trap '' XFSZ
        ulimit -f $size
        "$EQAT" export q3 -o full.gguf -q
        echo "code $?"
    ) >.theme/both 2>&1
    grep -q 'code 1' .theme/both || complain "full disk: $(cat .theme/both)"
done
[ -z "$(ls | grep -E 'full|tmp')" ] || complain "left behind: $(ls)"

# quantize --target gguf: the file beside the folder, exact; a finished run leaves it
expect 0 quantize m -o aimed -q --method rtn --init mse --bits 4 --target gguf
same_model aimed aimed/model.gguf
expect 0 inspect aimed/model.gguf
out_has '^weights     4.500 bits in blocks'
expect 0 quantize m -o aimed -q --method rtn --init mse --bits 4 --target gguf
# 4 bits with zero points become Q5_0: offsets are not rounded
expect 0 quantize m -o zeros -q --method rtn --init mse --bits 4 --group 32 --grid asymmetric \
    --target gguf
same_model zeros zeros/model.gguf
expect 0 inspect zeros/model.gguf --json
out_json '5 < r["bits_per_weight"] <= 5.5'

# A mean of bits is that of the file: in groups of 32 nothing has less than Q4_0.
aimed_run() { # model, folder, option...
    echo quantize "$1" -o "$2" -q --method rtn --init mse --target gguf --calib m/tokens.npy --samples 16 \
        --seqlen 32 --precision f32 "${@:3}"
}
# shellcheck disable=SC2046
expect 2 $(aimed_run m mixed --group 32 --target-bpw 3)
err_has 'the least in groups of 32 is 4.500 in ggml'
# shellcheck disable=SC2046
expect 0 $(aimed_run wide mixed --target-bpw 5)
same_model mixed mixed/model.gguf
expect 0 inspect mixed/model.gguf --json
out_json '4 < r["bits_per_weight"] <= 5'

# A tied model: one option says it for both, as without a target.
tiny tied --tied --tokenizer --vocabulary 264
expect 0 quantize tied -o ends -q --method rtn --init mse --bits 4 --target gguf --embed-bits 4 --json
out_json 'r["embed_bits"] == 4 and r["head_bits"] == 4'
