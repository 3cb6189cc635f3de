# Export to folders in the layouts of AWQ, compressed-tensors and EfficientQAT: the same bytes as numpy
# makes of our folder, the same perplexity, and what does not fit refused by name.
need_python
tiny m --tokenizer
head -c 2000 "$ROOT/LICENSE" >text.txt
repack() { "$PYTHON" "$ROOT/tests/cli/repack.py" "$@" >/dev/null || complain "repack.py $*"; }
measure() { # folder: its perplexity to .theme/out
    expect 0 eval "$1" --text text.txt --context 64 --windows 5 --json --precision f32
}
equal() { # folder, folder: the same tensors by name, type and bytes
    "$PYTHON" - "$1" "$2" <<'PYTHON' || complain "$1 and $2 hold other tensors"
import json, sys
def read(folder):
    data = open(folder + "/model.safetensors", "rb").read()
    n = int.from_bytes(data[:8], "little")
    return {k: (e["dtype"], e["shape"], data[8 + n:][slice(*e["data_offsets"])])
            for k, e in json.loads(data[8:8 + n]).items() if k != "__metadata__"}
a, b = read(sys.argv[1]), read(sys.argv[2])
wrong = [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)]
sys.exit(bool(wrong) or len(a) < 21)
PYTHON
}
export_as() { # folder, output, format, name of the layout in repack.py
    expect 0 export "$1" -o "$2" --format "$3" --json
    out_json "r['largest_error'] == 0"
    repack "$1" "$2-numpy" "$4"
    equal "$2" "$2-numpy"
    measure "$1"
    cp .theme/out wanted
    measure "$2"
    cmp -s .theme/out wanted || complain "$2 has another perplexity than $1"
}

for bits in 2 3 4 8; do
    expect 0 quantize m -o q$bits -q --method rtn --init mse --bits $bits --group 32
    export_as q$bits ct$bits compressed-tensors ct
    export_as q$bits eqat$bits eqat eqat
done
export_as q4 awq4 awq awq
repack q4 planted awq --plant
must_complain equal awq4 planted
[ -f awq4/tokenizer.json ] || complain "no tokenizer"
expect 0 generate awq4 --prompt 'The' --max-tokens 4

# From one layout to another; symmetric grids without zero points; bits by module.
expect 0 export awq4 -o awq4-ct -f compressed-tensors
equal awq4-ct ct4
expect 0 export ct4 -o ct4-awq -f awq
equal ct4-awq awq4
expect 0 export ct4 -o ct4-gptq -f gptq
equal ct4-gptq q4
expect 0 quantize m -o symmetric -q --method rtn --init mse --bits 2 --group 32 --grid symmetric
export_as symmetric ct-symmetric compressed-tensors ct
grep -q zero_point ct-symmetric/model.safetensors && complain "a symmetric grid has zero points"
echo '{"rules": [{"modules": ["down_proj"], "bits": 4, "group": -1}]}' >recipe.json
expect 0 quantize m -o mixed -q --method rtn --init mse --bits 3 --group 32 --recipe recipe.json
export_as mixed ct-mixed compressed-tensors ct

# What does not fit, and what is there already.
refuse() { # model, output, format, message
    expect "$1" export "$2" -o "$3" --format "$4"
    err_has "$5"
    [ ! -e none ] || complain "something is left of a refused export"
}
refuse 2 q3 none awq 'q_proj does not fit AWQ, which holds 4 bits'
refuse 2 m none awq 'q_proj is not quantized'
refuse 2 mixed none eqat 'down_proj has other bits or groups'
repack q4 order gptq2 --act-order
refuse 2 order none compressed-tensors 'q_proj has columns in activation order'
refuse 2 order none gguf 'no ggml type holds model.layers.0.self_attn.q_proj exactly'
repack q4 wide ct-old --scales F32
expect 0 export wide -o wide-awq -f awq
equal wide-awq awq4
refuse 2 q4 awq4 awq 'is there already'
