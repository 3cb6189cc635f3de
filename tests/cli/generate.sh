# Generation: greedy is repeatable, seeds decide sampling, text comes in whole characters and ends
# where it is told to.
tiny m --tokenizer

expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 3 --json
err_has '^prompt 3 tokens, [0-9.]+ tokens/s; answer [0-9]+ tokens, [0-9.]+ tokens/s$'
out_json 'r["prompt"] == "abc" and 1 <= r["tokens"] <= 40 and len(r["ids"]) == r["tokens"]'
out_json 'r["prompt_tokens"] == 3 and r["tokens_per_second"] > 0 < r["prompt_tokens_per_second"]'
out_json 'r["finish_reason"] == ("length" if r["tokens"] == 40 else "stop")'
# Its tokens are bytes: the text is what UTF-8 makes of them, U+FFFD for what is none.
is_text='r["text"] == bytes(i for i in r["ids"] if i < 256).decode(errors="replace")'
out_json "$is_text"
field ids >first
cp .theme/out answer
sed -i 's/"text": "/&x/' .theme/out
must_complain out_json "$is_text"
expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 3 --json --threads 1 -q
err_lines 0
field ids | cmp -s - first || complain "the same seed speaks differently"
expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 4 --json
field ids | cmp -s - first && complain "another seed speaks the same"
expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 3
iconv -f UTF-8 -t UTF-8 .theme/out >/dev/null || complain "not UTF-8"
python3 -c 'import json, sys
sys.stdout.write(json.load(open("answer"))["text"] + "\n")' >text
cmp -s .theme/out text || complain "streamed text is not that of --json"

# The same prompt from elsewhere.
printf abc >prompt
expect 0 generate m --prompt-file prompt -n 40 --temperature 1 --seed 3 -q
cmp -s .theme/out text || complain "--prompt-file says something else"
"$EQAT" generate m -p - -n 40 --temperature 1 --seed 3 -q <prompt | cmp -s - text ||
    complain "-p - says something else"
expect 1 generate m --prompt-file absent
err_has '^eqat: absent: No such file'
: >empty
expect 2 generate m --prompt-file empty
err_has 'the prompt has no tokens'

# A stop string of two tokens, and one that never comes.
expect 0 generate m -p 'abc' -n 200 --temperature 0.7 --seed 3 --json
cp .theme/out answer
stop=$(python3 -c 'import json, re
print(re.search("[A-Za-z0-9]{2}", json.load(open("answer"))["text"])[0])')
expect 0 generate m -p 'abc' -n 200 --temperature 0.7 --seed 3 --json --stop never --stop "$stop"
out_json 'r["finish_reason"] == "stop" and r["tokens"] >= 2'
out_json 'r["text"] == json.load(open("answer"))["text"].split("'"$stop"'")[0]'
expect 0 generate m -p 'abc' -n 200 --temperature 0.7 --seed 3 --json --stop never
out_json 'r["text"] == json.load(open("answer"))["text"]'
expect 2 generate m -p 'abc' --stop ''
err_has 'a stop string is empty'

# The ends of generation_config.json end a text too.
cp -r m ends
end=$(python3 -c 'import json; print(json.load(open("answer"))["ids"][5])')
echo "{\"eos_token_id\": [300, $end]}" >ends/generation_config.json
expect 0 generate ends -p 'abc' -n 200 --temperature 0.7 --seed 3 --json
out_json 'r["finish_reason"] == "stop" and r["ids"][-1] == '"$end"' and r["tokens"] <= 6'
out_json 'r["ids"] == json.load(open("answer"))["ids"][:r["tokens"]]'
echo '[' >ends/generation_config.json
expect 1 generate ends -p 'abc'
err_has 'ends/generation_config.json'

# Where only the most likely token is left, sampling is greedy.
expect 0 generate m -p 'abc' -n 30 --json
field ids >first
for option in '--min-p 1' '--top-k 1' '--top-p 1e-9'; do
    # shellcheck disable=SC2086  # an option and its value
    expect 0 generate m -p 'abc' -n 30 --json --temperature 2 $option
    field ids | cmp -s - first || complain "$option is not greedy"
done
expect 0 generate m -p 'abc' -n 30 --json --repetition-penalty 50
field ids | cmp -s - first && complain "the penalty changes nothing"
out_json 'len(set(r["ids"])) == r["tokens"]'

# The context: 512 tokens, or fewer.
expect 0 generate m -p 'abc' -n 0 --json --repetition-penalty 0.1
out_json 'r["tokens"] == 509 and r["finish_reason"] == "length"'
expect 0 generate m -p 'abc' -n 0 --json --context 20 --repetition-penalty 0.1
out_json 'r["tokens"] == 17 and r["finish_reason"] == "length"'
expect 2 generate m -p 'abcdef' --context 5
err_has '6 tokens of prompt and 128 new ones exceed the context of 5$'
expect 2 generate m -p 'abc' -n 510
err_has "exceed the model's context of 512"
expect 2 generate m -p 'abc' --context 513
err_has "a context of 513 tokens, allowed are 2 to the model's 512"
expect 1 generate m -p 'abc' -n 0 --memory 1M
err_has 'texts of up to 512 tokens at once need [0-9.]+ MiB and may use 1.0 MiB; that is enough'

# Ctrl-C.
tiny slow --tokenizer --blocks 60
"$EQAT" generate slow -p 'abc' -n 500 --repetition-penalty 0.1 >cut 2>note &
pid=$!
for _ in $(seq 200); do
    [ -s cut ] && break
    sleep 0.05
done
kill -INT $pid
wait $pid
code=$?
[ "$code" -eq 130 ] || complain "interrupted: exit code $code"
iconv -f UTF-8 -t UTF-8 cut >/dev/null || complain "interrupted: not UTF-8"

# A quantized model says the same with any number of threads, with activations in 8 bits or exact.
head -c 2000 "$ROOT/LICENSE" >text.txt
expect 0 quantize m -o q --method rtn --bits 2 --group 32 --calib text.txt --seqlen 64
for mode in 8 exact; do
    expect 0 generate q -q -p 'abc' -n 40 --temperature 1 --seed 3 --activations $mode
    cp .theme/out first
    expect 0 generate q -q -p 'abc' -n 40 --temperature 1 --seed 3 --activations $mode --threads 1
    cmp -s .theme/out first || complain "threads change what a quantized model says: $mode"
done

# Keys and values in fewer bits: the number of threads changes nothing, and the plan is smaller.
for bits in 16 8 4; do
    expect 0 generate m -q -p 'abc' -n 60 --temperature 1 --seed 3 --kv-bits $bits --precision f32
    cp .theme/out "kv$bits"
    expect 0 generate m -q -p 'abc' -n 60 --temperature 1 --seed 3 --kv-bits $bits --precision f32 \
        --threads 1
    cmp -s .theme/out "kv$bits" || complain "threads change what is said with --kv-bits $bits"
    expect 1 generate m -p 'abc' -n 0 --memory 100K --kv-bits $bits
    sed -n 's/.*at once need \([0-9.]*\) MiB.*/\1/p' .theme/err >>plans
done
cmp -s kv16 kv4 && complain "keys and values in 4 bits change nothing"
awk 'NR == 1 { first = $1 } END { exit !($1 < first) }' plans || complain "4 bits need as much memory"

need_model
expect 0 generate "$MODEL" -p 'The capital of France is' -n 8 --temperature 0
out_has 'Paris'
