# Perplexity: the keys of the JSON, the counts, and a model that agrees with itself.
tiny m --tokenizer
tiny other --tokenizer --seed 2
head -c 2000 "$ROOT/LICENSE" >text.txt
expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32
out_json 'list(r) == ["text", "windows", "tokens", "perplexity"]'
out_json 'r["text"] == "text.txt" and r["windows"] == 5 and r["tokens"] == 5 * 63'
out_json '10 < r["perplexity"] < 1e5'
cp .theme/out first
expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32 --threads 1
cmp -s .theme/out first || complain "threads change the perplexity"

expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32 --reference m
out_json 'list(r) == ["text", "windows", "tokens", "perplexity", "kl", "top1"]'
out_json 'abs(r["kl"]) < 1e-6 and r["top1"] == 1'
expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32 --reference other
out_json 'r["kl"] > 0.1 and r["top1"] < 0.9'

# Activations in 8 bits: of a model that is not quantized nothing changes; else a reference is the
# model itself.
expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32 --activations 8
out_json 'r["kl"] < 1e-6 and r["top1"] == 1'
expect 0 quantize m -o q --method rtn --bits 4 --group 32 --calib text.txt --seqlen 64
expect 0 eval q --text text.txt --context 64 --windows 5 --json --precision f32 --activations 8
out_json '1e-9 < r["kl"] < 0.01 and r["top1"] > 0.9'
cp .theme/out first
expect 0 eval q --text text.txt --context 64 --windows 5 --json --precision f32 --activations 8 --threads 1
cmp -s .theme/out first || complain "threads change the perplexity with activations in 8 bits"
expect 0 eval q --text text.txt --context 64 --windows 5 --json --precision f32 --activations exact
out_json 'list(r) == ["text", "windows", "tokens", "perplexity"]'

# Keys and values in fewer bits: without a reference the reference is the model itself.
for bits in 8 4; do
    expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32 --kv-bits $bits
    out_json '1e-9 < r["kl"] < 0.1 and r["top1"] > 0.5'
    field kl >"kl$bits"
    cp .theme/out first
    expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32 --kv-bits $bits \
        --threads 1
    cmp -s .theme/out first || complain "threads change the perplexity with --kv-bits $bits"
done
awk 'NR == FNR { eight = $1 } END { exit !($1 > 10 * eight) }' kl8 kl4 ||
    complain "4 bits cost no more than 8"
expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32 --kv-bits 8 \
    --reference other
out_json 'r["kl"] > 0.1'

expect 0 eval m --text text.txt --context 64 --windows 0 --json
out_json 'r["windows"] == 2000 // 64'

# A document of a .jsonl is a text; of instructions the answers count; what is no text is refused.
python3 - <<'PYTHON'
import json
json.dump({"text": open("text.txt").read()}, open("text.jsonl", "w"))
with open("orders.jsonl", "w") as file:
    for i in range(40):
        print(json.dumps({"instruction": f"Add {i} and 1.", "output": f"It is {i + 1}."}), file=file)
PYTHON
expect 0 eval m --text text.txt --context 64 --windows 5 --json --precision f32
field perplexity >of-text
expect 0 eval m --text text.jsonl --context 64 --windows 5 --json --precision f32
field perplexity >of-document
cmp of-text of-document || complain "a document has another perplexity than the text"
expect 0 eval m --text orders.jsonl --context 256 --windows 3 --json
out_json '0 < r["tokens"] < 3 * 255 / 2'
# The ending tells the kind in any case, .ndjson is .jsonl; a byte order mark is no text.
cp text.jsonl text.NDJSON
(printf '\357\273\277' && cat text.jsonl) >marked.jsonl
(printf '\357\273\277' && cat text.txt) >marked.txt
for file in text.NDJSON marked.jsonl marked.txt; do
    expect 0 eval m --text $file --context 64 --windows 5 --json --precision f32
    field perplexity >of-document
    cmp of-text of-document || complain "$file has another perplexity than the text"
done
# Examples as they are in training.
expect 0 eval m --text orders.jsonl --context 256 --windows 3 --json --target-max 3
out_json 'r["tokens"] < 3 * 255 / 4'
echo '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}' >talk.jsonl
expect 2 eval m --text talk.jsonl --context 64
err_has 'talk.jsonl.*line 1.*--chat-format'
tiny chat --tokenizer --vocabulary 259 --chat
expect 0 eval chat --text talk.jsonl --context 64 --json --chat-format chatml
expect 2 eval m --text text.txt,text.jsonl --context 64
err_has 'text.txt and others: how many windows'
# Longer windows than the model was made for are said to be.
(for i in $(seq 20); do cat text.txt; done) >long.txt
expect 0 eval m --text long.txt --context 1024 --windows 1
err_has '^warning: m: windows of 1024 tokens are longer than the 512 that the model was made for'
cp text.txt text.gz
expect 1 eval m --text text.gz --context 64
err_has '^eqat: text.gz: is no text'
expect 0 eval m --text text.txt --context 64 --windows 2
out_has '^perplexity +[0-9.]+$'
printf 'short' >short.txt
expect 2 eval m --text short.txt --context 64
err_lines 1
