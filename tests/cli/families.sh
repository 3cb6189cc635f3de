# Models of other families than Llama: the same numbers as numpy's, quantized, trained, exported and
# read again.
need_python
tokens=$(seq -s, 3 7 250)
head -c 1500 "$ROOT/LICENSE" >text.txt

# follows MODEL FOLDER [SHARE]: the model's logits are those of numpy on the folder
follows() {
    expect 0 logits "$1" --tokens "$tokens" -o logits.npy -q --precision f32
    "$PYTHON" "$ROOT/tests/cli/forward.py" "$2" "$tokens" logits.npy ${3:+"$3"} >.theme/out 2>&1 ||
        complain "$(cat .theme/out)"
}
# tensors FOLDER FOLDER PATTERN same|other: the tensors of these names are equal byte by byte, or all
# of them differ; there is one at least
tensors() {
    python3 - "$@" <<'PYTHON' || complain "$1 and $2: tensors $3 are not $4"
import json, re, struct, sys
def read(folder):
    data = open(folder + "/model.safetensors", "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    return {k: data[8 + n + e["data_offsets"][0]:8 + n + e["data_offsets"][1]]
            for k, e in header.items() if k != "__metadata__" and re.search(sys.argv[3], k)}
a, b = read(sys.argv[1]), read(sys.argv[2])
equal = [a[k] == b[k] for k in a]
wanted = sys.argv[4] == "same"
sys.exit(0 if a and a.keys() == b.keys() and all(e == wanted for e in equal) else 1)
PYTHON
}
run() { # model, folder, option...
    local model=$1 out=$2
    shift 2
    echo quantize "$model" -o "$out" -q --bits 3 --group 32 --calib tokens.npy --samples 12 \
        --val-samples 4 --seqlen 32 --batch 2 --epochs 2 --precision f32 --tune norms \
        --tune-epochs 1 --tune-batch 4 --tune-norm-lr 1e-3 "$@"
}

# What PyTorch computed and transformers confirmed.
for golden in "$ROOT"/tests/golden/decoder_*; do
    "$PYTHON" "$ROOT/tests/cli/golden_logits.py" "$EQAT" "$golden" >.theme/out 2>&1 ||
        complain "$(cat .theme/out)"
done

tiny plain --tokenizer
cp plain/tokens.npy .
for family in llama-bias mistral qwen2 qwen3; do
    tiny "$family" --family "$family" --tokenizer $([ $family = qwen2 ] && echo --tied)
    follows "$family" "$family"
    # A GGUF file has the same model, with llama's rows in pairs.
    expect 0 export "$family" -o "$family.gguf" -q
    follows "$family.gguf" "$family"
    [ $family = mistral ] && continue # computed as llama

    # Biases stay what they were, norms are trained; resumed runs give the same bytes.
    # shellcheck disable=SC2046  # run gives separate words
    expect 0 $(run "$family" "$family-q") --threads 1
    # shellcheck disable=SC2046
    expect 130 $(run "$family" "$family-r") --threads 3 --stop-after 1
    # shellcheck disable=SC2046
    expect 0 $(run "$family" "$family-r") --threads 2
    same "$family-q" "$family-r"
    [ $family = qwen3 ] || tensors "$family" "$family-q" '\.bias$' same
    [ $family = qwen3 ] && tensors "$family" "$family-q" '_norm\.weight$' other
    expect 0 export "$family-q" -o "$family-f32" -q --format dense --dtype f32
    follows "$family-q" "$family-f32"

    # From the GGUF file: the same model again, and its own configuration.
    # shellcheck disable=SC2046
    expect 0 $(run "$family.gguf" "$family-g")
    cmp -s "$family-q/model.safetensors" "$family-g/model.safetensors" ||
        complain "$family: quantized from GGUF it is another model"
    same_model "$family-q" "$family-g"
    for format in gptq compressed-tensors eqat; do
        expect 0 export "$family-q" -o "$family-$format" -q --format $format
        same_model "$family-q" "$family-$format"
    done
    expect 0 export "$family-q" -o "$family-q.gguf" -q --allow-larger
    same_model "$family-q" "$family-q.gguf"

    # Generation by one token at a time says what the exported model says.
    for model in "$family-q" "$family-q.gguf"; do
        expect 0 generate "$model" -p 'abc' -q --max-tokens 12 --temperature 0 --activations exact
        cp .theme/out "$model.txt"
    done
    cmp -s "$family-q.txt" "$family-q.gguf.txt" || complain "$family: other words from GGUF"

    # A second end-to-end phase, over every weight.
    expect 0 tune "$family-q" -o "$family-t" -q --reference "$family" --calib tokens.npy --samples 12 \
        --val-samples 4 --seqlen 32 --tune-batch 4 --tune-epochs 1 --precision f32 --tune all
    [ $family = qwen3 ] || tensors "$family" "$family-t" '\.bias$' same
done

# Texts are read in form C, also from GGUF, whose folder says so again.
for model in qwen2 qwen2.gguf qwen2-g; do
    expect 0 tokenize "$model" --text $'e\u0301 \u00e9'
    out_has '^195 169 32 195 169$'
done
expect 0 tokenize plain --text $'e\u0301'
out_has '^101 204 129$'

# Four bits fill whole nibbles of AWQ, biases too.
expect 0 quantize qwen2 -o qwen2-w4 -q --method rtn --init mse --bits 4 --group 32
expect 0 export qwen2-w4 -o qwen2-awq -q --format awq
same_model qwen2-w4 qwen2-awq

# A wrong value is noticed; what is not there is named.
must_complain follows qwen2 qwen2 1e-12
must_complain tensors qwen3 qwen3-q '_norm\.weight$' same
cp -r plain unbiased
sed -i 's/"llama"/"qwen2"/' unbiased/config.json
expect 1 logits unbiased --tokens 1,2 -o no.npy -q
err_has 'self_attn.q_proj.bias is not there'
cp -r qwen3 sliding
sed -i 's/"use_sliding_window": false/"use_sliding_window": true/; s/"sliding_window": null/"sliding_window": 64/' \
    sliding/config.json
expect 1 logits sliding --tokens 1,2 -o no.npy -q
err_has 'sliding_window of 64'
cp -r qwen3 moe
sed -i 's/"model_type": "qwen3"/"model_type": "qwen3_moe"/' moe/config.json
expect 1 logits moe --tokens 1,2 -o no.npy -q
err_has 'qwen3_moe'
