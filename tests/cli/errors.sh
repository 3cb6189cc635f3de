# Files that are absent or broken: exit code 1 and one line that names the file.
failed() { # name that the message must have, then the arguments
    local name=$1
    shift
    expect 1 "$@"
    out_lines 0
    err_lines 1
    err_has "^eqat: .*$name"
}

tiny m --tokenizer
echo text >text.txt

for command in inspect 'eval --text text.txt' 'tokenize --text x' 'generate -p x -q' \
    'logits --tokens 1 -o o.npy' 'quantize -o o -q --method rtn --init minmax'; do
    # shellcheck disable=SC2086  # a command and its options
    failed absent $command absent
done
failed absent.txt eval m --text absent.txt
failed absent eval m --text text.txt --reference absent
failed absent.jsonl quantize m -o o -q --group 32 --calib absent.jsonl --samples 1 --seqlen 8

mkdir empty
failed empty inspect empty
printf 'GGUF' >short.gguf
failed short.gguf inspect short.gguf
head -c 4096 /dev/zero >zero.gguf
failed zero.gguf inspect zero.gguf
cp -r m cut
head -c 1000 m/model.safetensors >cut/model.safetensors
failed cut/model.safetensors inspect cut
cp -r m config
echo '{"model_type": ' >config/config.json
failed config/config.json inspect config
cp -r m other
sed -i 's/"llama"/"unheard-of"/' other/config.json
failed unheard-of inspect other
cp -r m heads
sed -i 's/"head_dim": [0-9]*/"head_dim": 134217728/' heads/config.json
failed 'heads of 134217728 are more than' inspect heads
cp -r m none
sed -i 's/"head_dim": [0-9]*,//; s/"num_attention_heads": [0-9]*/"num_attention_heads": 128/' none/config.json
failed 'head_dim is 0' inspect none

# Nowhere to write.
failed /dev/null/x logits m --tokens 1,2 -o /dev/null/x
failed /dev/null/x quantize m -o /dev/null/x -q --method rtn --init minmax --group 32
[ -e o.npy ] && complain "a failure left an output file"
[ -e o ] && complain "a failure left an output folder"
if [ -e /dev/full ]; then
    "$EQAT" inspect m >/dev/full 2>.theme/err && complain "a full disk went unnoticed"
    err_has 'standard output'
fi
