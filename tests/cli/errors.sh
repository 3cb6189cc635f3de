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

# configured EDIT MESSAGE: what is said of the model with an edited config.json
configured() {
    rm -rf edited
    cp -r m edited
    sed -i "$1" edited/config.json
    failed "edited.*$2" inspect edited
}
configured 's/"head_dim": [0-9]*/"head_dim": 134217728/' 'heads of 134217728 are more than'
configured 's/"head_dim": [0-9]*,//; s/"num_attention_heads": [0-9]*/"num_attention_heads": 128/' \
    'head_dim is 0'
configured 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 200000000/' \
    'model.layers.199999999.input_layernorm.weight'
# A value of another type is not the default.
configured 's/"rope_theta": 10000.0/"rope_theta": "500000"/' 'rope_theta is not a number'
configured 's/"rms_norm_eps": 1e-05/"rms_norm_eps": "1e-05"/' 'rms_norm_eps is not a number'
configured 's/"attention_bias": false/"attention_bias": 1/' 'attention_bias is neither'
configured 's/"tie_word_embeddings": false/"tie_word_embeddings": "no"/' 'tie_word_embeddings is'
configured 's/"mlp_bias": false/"rope_scaling": {"factor": 8.0}/' 'rope scaling "\(without a type\)"'

# A file that is cut short while it is read.
tiny talks --tokenizer --chat --vocabulary 259
mkfifo lines
"$EQAT" chat talks -q <lines >/dev/null 2>.theme/err &
pid=$!
exec 5>lines
for _ in $(seq 400); do
    grep -q talks/model.safetensors /proc/$pid/maps && break
    sleep 0.05
done
: >talks/model.safetensors
echo abc >&5
exec 5>&-
wait $pid
[ $? -eq 1 ] || complain "a file that was cut short: $(cat .theme/err)"
err_has '^eqat: a file was cut short while it was read'

# Nowhere to write. What is no file would be replaced by one; what a link leads to is written.
mkfifo pipe
failed 'pipe: cannot write: not a regular file' logits m --tokens 1,2 -o pipe
[ -p pipe ] || complain "the pipe is gone"
echo old >linked.npy
ln -s linked.npy link.npy
expect 0 logits m --tokens 1,2 -o link.npy
[ -L link.npy ] && [ "$(wc -c <linked.npy)" -gt 100 ] || complain "the link was replaced"
failed /dev/null/x logits m --tokens 1,2 -o /dev/null/x
failed /dev/null/x quantize m -o /dev/null/x -q --method rtn --init minmax --group 32
[ -e o.npy ] && complain "a failure left an output file"
[ -e o ] && complain "a failure left an output folder"
mkdir other-out
echo mine >other-out/notes.tmp-7
failed 'other-out: holds notes.tmp-7' quantize m -o other-out -q --method rtn --init minmax --group 32
mkdir -p taken/run
echo mine >taken/run/friends-list.txt
failed 'taken/run: holds friends-list.txt' quantize m -o taken -q --method rtn --init minmax --group 32
[ -e taken/run/friends-list.txt ] || complain "a file of somebody else is gone"
if [ -e /dev/full ]; then
    "$EQAT" inspect m >/dev/full 2>.theme/err && complain "a full disk went unnoticed"
    err_has 'standard output'
fi
