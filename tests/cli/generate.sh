# Generation: greedy is repeatable, seeds decide sampling, text comes in whole characters.
tiny m --tokenizer
expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 3 --json
out_json 'r["prompt"] == "abc" and 1 <= r["tokens"] <= 40 and len(r["ids"]) == r["tokens"]'
# Its tokens are bytes: the text is what UTF-8 makes of them, U+FFFD for what is none.
out_json 'r["text"] == bytes(i for i in r["ids"] if i < 256).decode(errors="replace")'
cp .theme/out first
expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 3 --json --threads 1
cmp -s .theme/out first || complain "the same seed speaks differently"
expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 4 --json
cmp -s .theme/out first && complain "another seed speaks the same"
expect 0 generate m -p 'abc' -n 40 --temperature 1 --seed 3
iconv -f UTF-8 -t UTF-8 .theme/out >/dev/null || complain "not UTF-8"

# A quantized model: activations in 8 bits are the default, and either way is repeatable.
head -c 2000 "$ROOT/LICENSE" >text.txt
expect 0 quantize m -o q --method rtn --bits 2 --group 32 --calib text.txt --seqlen 64
expect 0 generate q -p 'abc' -n 40 --temperature 1 --seed 3 --json
cp .theme/out first
expect 0 generate q -p 'abc' -n 40 --temperature 1 --seed 3 --json --threads 1 --activations 8
cmp -s .theme/out first || complain "threads change what a quantized model says"
expect 0 generate q -p 'abc' -n 40 --temperature 1 --seed 3 --json --activations exact
cp .theme/out first
expect 0 generate q -p 'abc' -n 40 --temperature 1 --seed 3 --json --activations exact --threads 1
cmp -s .theme/out first || complain "threads change what a quantized model says, exactly"

need_model
expect 0 generate "$MODEL" -p 'The capital of France is' -n 8 --temperature 0
out_has 'Paris'
