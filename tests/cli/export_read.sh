# Exported GGUF files as the `gguf` package reads them: structure, and the weights of every type. A
# wrong byte is seen.
need_python
"$PYTHON" -c 'import gguf' 2>/dev/null || skip "no gguf in .venv (make test installs it)"
tiny m --tokenizer --vocabulary 264
tiny wide --tokenizer --vocabulary 264 --wide --blocks 1

read_back() { # model, bits, grid, group, option...
    local model=$1 bits=$2 grid=$3 group=$4 out=$1-$2-$3-$4
    shift 4
    expect 0 quantize "$model" -o "$out" -q --method rtn --init mse --bits "$bits" --grid "$grid" \
        --group "$group" --embed-bits 8 --head-bits 4
    expect 0 export "$out" -o "$out.gguf" -q "$@"
    "$PYTHON" "$ROOT/tests/clients/check_gguf.py" "$EQAT" "$out" "$out.gguf" >>read ||
        complain "$out.gguf: $(tail -n 1 read)"
}
read_back wide 2 symmetric 64
read_back wide 3 symmetric 256
read_back wide 4 asymmetric 256
read_back m 3 asymmetric 32
read_back m 4 symmetric 32
read_back m 4 asymmetric 32
read_back m 8 symmetric 32
rm -r m-4-asymmetric-32 m-4-asymmetric-32.gguf
read_back m 4 asymmetric 32 --exact
for type in Q2_0 Q3_K Q4_K Q4_0 Q4_1 Q5_0 Q8_0; do
    grep -q "'$type'" read || complain "no file has the type $type: $(cat read)"
done

size=$(stat -c %s m-4-symmetric-32.gguf)
printf '\x7f' | dd of=m-4-symmetric-32.gguf bs=1 seek=$((size - 300)) conv=notrunc 2>/dev/null
"$PYTHON" "$ROOT/tests/clients/check_gguf.py" "$EQAT" m-4-symmetric-32 m-4-symmetric-32.gguf \
    >read 2>&1 && complain "a wrong byte is not seen: $(cat read)"
