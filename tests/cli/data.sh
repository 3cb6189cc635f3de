# Data for training: which files are read, and how; what is said about others.
tiny t --tokenizer --vocabulary 259
for line in $(seq 40); do echo "{\"text\": \"$line $((line * line * 7919)) and $line\"}"; done >a.jsonl
cp a.jsonl b.jsonl
sed '1s/^/[/; $!s/$/,/; $s/$/]/' a.jsonl >a.json
sed 's/.*: "//; s/"}$//' a.jsonl >a.txt

# windows DATA OPTION...: the fingerprint of the windows that a run gets from the data
windows() {
    local data=$1
    shift
    rm -rf w
    expect 0 quantize t -o w --method rtn --init weighted --bits 4 --group 32 --calib "$data" \
        --samples 4 --seqlen 12 "$@" &&
        python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["inputs"]["data"])' \
            w/run/plan.json
}
# equal WANTED FOUND: two fingerprints
equal() { [ -n "$1" ] && [ "$1" = "$2" ] || complain "windows are '$2', expected '$1'"; }
different() { [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ] || complain "windows are '$1', '$2'"; }

concat=$(windows a.jsonl)
equal "$concat" "$(windows a.json)"
different "$concat" "$(windows a.txt)"

# Between documents stands eos, even if there is an unknown token, or <|endoftext|> if there is one.
separator() { # its id
    python3 - "$1" <<'PYTHON'
import json, struct, sys
ids = []
for line in open("a.jsonl"):
    ids += [*json.loads(line)["text"].encode(), int(sys.argv[1])]
header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (4, 12), }"
header += b" " * (-(len(header) + 11) % 64) + b"\n"
with open("by_hand.npy", "wb") as out:
    out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    out.write(struct.pack("<48i", *ids[:48]))
PYTHON
    windows by_hand.npy
}
add_token() { # id, name, what tokenizer_config.json calls it
    python3 - "$@" <<'PYTHON'
import json, sys
number, name, what = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
tokenizer, config = (json.load(open(f"t/{file}.json")) for file in ("tokenizer", "tokenizer_config"))
tokenizer["model"]["vocab"][name] = number
tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": number, "content": name})
config.update({key: name for key in what})
json.dump(tokenizer, open("t/tokenizer.json", "w"))
json.dump(config, open("t/tokenizer_config.json", "w"))
PYTHON
}
equal "$(separator 256)" "$concat"
add_token 257 '<unk>' unk_token
equal "$(separator 256)" "$(windows a.jsonl)"
add_token 258 '<|endoftext|>'
equal "$(separator 258)" "$(windows a.jsonl)"

# Random pieces come from one file, of any kind.
random=$(windows a.jsonl --order random-doc)
equal "$random" "$(windows a.jsonl:1 --order random-doc)"
equal "$random" "$(windows a.json --order random-doc)"
different "$random" "$concat"
different "$(windows a.txt)" "$(windows a.txt --order random-doc)"
refused() { # data, option...
    local data=$1
    shift
    expect 2 quantize t -o no -q --bits 2 --group 32 --calib "$data" --samples 4 --val-samples 2 \
        --seqlen 12 --tune-epochs 0 "$@"
    err_lines 1
}
for mix in a.jsonl,b.jsonl a.jsonl:1,b.txt:2; do
    refused $mix --order random-doc
    err_has "$mix: --order random-doc takes one file, not a mix"
done
refused a.txt --order random-doc
err_has 'a.txt: has one document of more than 12 tokens.*--val'

# The blocks see every file of a mix, also with every second window: what the second file holds
# makes a difference.
sed 's/and/or/' a.jsonl >c.jsonl
for second in b c; do
    expect 0 quantize t -o mix-$second -q --bits 2 --group 32 --calib a.jsonl,$second.jsonl \
        --samples 8 --block-samples 4 --val a.txt --val-samples 2 --seqlen 12 --epochs 1 \
        --tune-epochs 0 --precision f32
done
first_block() { grep '"epoch":1' "mix-$1/run/log.jsonl" | head -n 1 | sed 's/,"seconds.*//'; }
[ -n "$(first_block b)" ] && [ "$(first_block b)" != "$(first_block c)" ] ||
    complain "blocks of a mix: $(first_block b) and $(first_block c)"

# Fields that are null are not there.
sed 's/^{/{"messages": null, "instruction": null, /' a.jsonl >null.jsonl
equal "$(windows a.jsonl)" "$(windows null.jsonl)"

# What is no text is refused, also in a mix.
printf 'T\0e\0x\0t\0' >utf16.txt
expect 1 quantize t -o no -q --bits 2 --group 32 --calib utf16.txt --samples 4 --seqlen 12
err_has 'utf16.txt: is no text: its beginning has a NUL'
for name in a.parquet a.jsonl.gz t/tokens.npy; do
    [ -e $name ] || cp a.jsonl $name
    expect 1 quantize t -o no -q --bits 2 --group 32 --calib a.jsonl,$name --samples 4 --seqlen 12
    err_lines 1
    err_has "$name: is no text"
done
expect 1 quantize t -o no -q --bits 2 --group 32 --calib a.jsonl --val self --samples 4 --seqlen 12
err_lines 1
err_has 'self: cannot open' # a file
[ -e no ] && complain "a refused run left a folder"

# What was cut or left out of examples is said.
echo '{"instruction": "Add", "output": ""}' >orders.jsonl
for line in 1 2 33 44; do
    echo "{\"instruction\": \"Add $line\", \"output\": \"It is $line\"}"
done >>orders.jsonl
expect 0 quantize t -o said --method rtn --init weighted --bits 4 --group 32 --calib orders.jsonl \
    --samples 4 --seqlen 100 --target-max 8
err_has 'orders.jsonl: of 5 examples: 2 answers cut \(--target-max\); 1 left out, the output is empty'
