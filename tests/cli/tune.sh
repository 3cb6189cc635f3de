# The end-to-end phase: alone and behind the blocks, what it trains, kill and resume, refusals.
tiny m
expect 0 quantize m -o start -q --method rtn --init mse --bits 2 --group 32

tune() { # folder, option...: arguments of a short end-to-end run
    local out=$1
    shift
    echo tune start -o "$out" -q --reference m --calib m/tokens.npy --samples 16 --val-samples 4 \
        --seqlen 32 --tune-batch 4 --tune-epochs 3 --tune-scale-lr 2e-3 --tune-weight-lr 2e-3 \
        --precision f32 --tune scales --ce 0 "$@"
}

# losses FOLDER EXPRESSION: training and validation losses t and v of its log, those before the
# first step in front, make the Python expression true
losses() {
    python3 - "$1" "$2" <<'PYTHON' || complain "$1/run/log.jsonl: not $2"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1] + "/run/log.jsonl")]
lines = [line for line in lines if line.get("event", "").startswith("tune")]
t, v = ([line.get(k) for line in lines] for k in ("train_loss", "val_loss"))
sys.exit(0 if eval(sys.argv[2]) else 1)
PYTHON
}

# Every kind of training and of loss brings its own loss down.
# shellcheck disable=SC2046  # tune gives separate words
expect 0 $(tune scales --json)
out_json 'r["bits"] == 2 and r["group"] == 32 and r["bytes"] > 0'
losses scales 'len(v) == 4 and min(v) == v[-1] < 0.97 * v[0]'
for what in norms all; do
    # shellcheck disable=SC2046
    expect 0 $(tune $what --tune $what)
    losses $what 't[3] < t[1]'
done
for loss in '--kl 0 --ce 1' '--kl 0.5 --ce 0.5' '--temperature 2' '--teacher-top 16' \
    '--teacher-top 8 --temperature 2 --ce 0.5'; do
    # shellcheck disable=SC2046,SC2086
    expect 0 $(tune "loss-${loss// /}" $loss)
    losses "loss-${loss// /}" 't[3] < t[1]'
done

# All tokens of a teacher that was run before are the same as the teacher itself, to rounding.
# shellcheck disable=SC2046
expect 0 $(tune top --teacher-top 257)
python3 - <<'PYTHON' || complain "a teacher that was run before has other losses"
import json
def losses(folder):
    lines = [json.loads(line) for line in open(folder + "/run/log.jsonl")]
    return [line["val_loss"] for line in lines if line.get("event", "").startswith("tune")]
assert all(abs(a - b) < 1e-4 * b for a, b in zip(losses("top"), losses("scales")))
PYTHON

# Trained scales keep codes and zero points; nothing but scales differs.
python3 - <<'PYTHON' || complain "codes, zero points and norms are not those of the start"
import json, struct, sys
def read(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    return {k: data[8 + n + e["data_offsets"][0]:8 + n + e["data_offsets"][1]]
            for k, e in header.items() if k != "__metadata__"}
old, new = (read(f + "/model.safetensors") for f in ("start", "scales"))
differ = {k for k in old if old[k] != new[k]}
good = old.keys() == new.keys() and differ and all(k.endswith(".scales") for k in differ)
sys.exit(0 if good else 1)
PYTHON

# The written model has the loss that the log promised.
expect 0 logits scales --tokens 1,2,3 -o tuned.npy
expect 0 logits start --tokens 1,2,3 -o start.npy
cmp -s tuned.npy start.npy && complain "training changed nothing"

# The same bytes for any number of threads, and after kills at any moment.
for threads in 1 16; do
    # shellcheck disable=SC2046
    expect 0 $(tune threads-$threads --threads $threads)
    same scales threads-$threads
done
hits=0
for what in scales all; do
    for round in $(seq 30); do
        # shellcheck disable=SC2046
        "$EQAT" $(tune killed-$what --tune $what --save-minutes 0) >.theme/out 2>.theme/err &
        job=$!
        sleep 0.0$((RANDOM % 90 + 10))
        kill -KILL $job 2>/dev/null
        wait $job 2>/dev/null
        [ $? -eq 137 ] || break
        hits=$((hits + 1))
    done
    # shellcheck disable=SC2046
    expect 0 $(tune killed-$what --tune $what --save-minutes 0)
    same $what killed-$what
done
[ $hits -ge 4 ] || complain "only $hits kills hit a running program"
# shellcheck disable=SC2046
expect 1 $(tune scales --tune-scale-lr 1e-3)
err_has 'scale_lr'

# A folder that is refused stays as it was.
ls -lR scales >before
# shellcheck disable=SC2046
expect 1 $(tune scales --calib self)
ls -lR scales >after
cmp -s before after || complain "a refused run changed the folder"

# Ctrl-C at any moment, also while it validates.
for round in $(seq 12); do
    # shellcheck disable=SC2046
    "$EQAT" $(tune quiet --val-samples 4 --save-minutes 100) >.theme/out 2>.theme/err &
    job=$!
    sleep 0.$((RANDOM % 4))$((RANDOM % 10))
    kill -INT $job 2>/dev/null
    wait $job 2>/dev/null
    [ $? -eq 130 ] || break
done
# shellcheck disable=SC2046
expect 0 $(tune quiet --save-minutes 100)
same scales quiet

# A damaged state is refused; whole rows are groups too.
# shellcheck disable=SC2046
"$EQAT" $(tune hurt --save-minutes 0 --tune-epochs 300) >.theme/out 2>.theme/err &
job=$!
sleep 1
kill -KILL $job 2>/dev/null
wait $job 2>/dev/null
python3 - <<'PYTHON' || complain "no state to damage"
import json, struct
path = "hurt/run/tune-last.safetensors"
data = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", data[:8])[0]
at = 8 + n + json.loads(data[8:8 + n])["state"]["data_offsets"][0]
data[at:at + 8] = struct.pack("<q", -3)
open(path, "wb").write(data)
PYTHON
# shellcheck disable=SC2046
expect 1 $(tune hurt --save-minutes 0 --tune-epochs 300)
err_has 'tune-last.safetensors.*remove the file'
expect 0 quantize m -o rows -q --method rtn --init mse --bits 8 --group -1
for what in scales all; do
    expect 0 tune rows -o rows-$what -q --reference m --calib m/tokens.npy --samples 16 \
        --val-samples 4 --seqlen 32 --tune-epochs 1 --tune $what --precision f32
    expect 0 inspect rows-$what --json
    out_json 'r["bits"] == 8 and r["group"] == -1'
done

# Layouts that do not say that a grid is symmetric: scales of either sign are trained as they are.
expect 0 quantize m -o signed -q --method rtn --init mse --bits 2 --group 32 --grid symmetric
expect 0 export signed -o signed-eqat -q --format eqat
for folder in signed signed-eqat; do
    expect 0 tune $folder -o $folder-all -q --reference m --calib m/tokens.npy --samples 16 \
        --val-samples 4 --seqlen 32 --tune-epochs 1 --tune all --precision f32
done
cmp signed-all/model.safetensors signed-eqat-all/model.safetensors ||
    complain "the layout changes the trained model"
python3 - <<'PYTHON' || complain "no scale to turn"
import json, struct
path = "start/model.safetensors"
data = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", data[:8])[0]
at = 8 + n + json.loads(data[8:8 + n])["model.layers.1.mlp.down_proj.scales"]["data_offsets"][0]
data[at + 1] |= 0x80
import shutil
shutil.copytree("start", "turned")
open("turned/model.safetensors", "wb").write(data)
PYTHON
expect 2 tune turned -o no -q --reference m --calib m/tokens.npy --samples 16 --val-samples 4 \
    --seqlen 32 --tune-epochs 1 --tune all --precision f32
err_has '^eqat: turned: block 1: a scale beside zero points is -'

# Behind the blocks, in one run; killed in the second phase it goes on there.
both() { # folder, option...
    # shellcheck disable=SC2046
    small_run "$@" --epochs 1 --tune-epochs 2 --tune-batch 4
}
# shellcheck disable=SC2046
expect 0 $(both whole)
losses whole 'len(v) == 3'
# shellcheck disable=SC2046
expect 130 $(both part --stop-after 2)
# shellcheck disable=SC2046
expect 0 $(both part)
same whole part
# shellcheck disable=SC2046
expect 0 $(both masters --tune all)
[ -z "$(ls masters/run | grep -E 'masters|tune|block')" ] || complain "masters/run keeps $(ls masters/run)"

# What cannot be done is refused in one line.
expect 2 tune start -o no -q --calib m/tokens.npy --seqlen 32 --samples 16
err_has '--reference'
expect 2 tune m -o no -q --reference m --calib m/tokens.npy --seqlen 32 --samples 16
err_has 'not quantized'
tiny other --blocks 2
expect 2 tune start -o no -q --reference other --calib m/tokens.npy --seqlen 32 --samples 16
err_has 'other'
# shellcheck disable=SC2046
expect 2 $(tune no --kl 0)
# shellcheck disable=SC2046
expect 2 $(tune no --kl 0 --ce 1 --teacher-top 4)
err_has 'teacher-top .* of the divergence, whose weight is 0'
# shellcheck disable=SC2046
expect 1 $(tune no --memory 1K)
err_has 'memory'

# A loss that is not a number: once back to a good state, then an error that names the step. A token
# that stands in one window only, a later one for training or one for validation, gets an embedding
# of NaN.
nan_model() { # folder, model, first window, first that is too late
    cp -r "$2" "$1"
    python3 - "$@" <<'PYTHON' || complain "no token for the NaN"
import collections, json, struct, sys
tokens = open("m/tokens.npy", "rb").read()[-20 * 32 * 4:]
ids = struct.unpack("<640i", tokens)
where = collections.defaultdict(set)
for i, token in enumerate(ids):
    where[token].add(i // 32)
first, end = int(sys.argv[3]), int(sys.argv[4])
token = next(t for t, w in where.items() if len(w) == 1 and first <= min(w) < end)
path = sys.argv[1] + "/model.safetensors"
data = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", data[:8])[0]
embedding = json.loads(data[8:8 + n])["model.embed_tokens.weight"]
size = 4 if embedding["dtype"] == "F32" else 2
at = 8 + n + embedding["data_offsets"][0] + token * 64 * size
data[at:at + size] = b"\xff" * (size - 1) + b"\x7f"
open(path, "wb").write(data)
PYTHON
}
nan_run() { # output folder, model, reference
    echo tune "$2" -o "$1" --reference "$3" --calib m/tokens.npy --samples 16 --val-samples 4 \
        --seqlen 32 --tune-batch 4 --tune-epochs 1 --precision f32
}
nan_model spoiled start 8 12
# shellcheck disable=SC2046
expect 1 $(nan_run bad spoiled m)
err_has 'step 3: the loss is not finite; going back'
err_has 'step 3: the loss is not finite, at half the rates too'
# It went back behind the step whose values had this loss: from them it would come again.
python3 - <<'PYTHON' || complain "went back to what led to the loss"
import json, struct
data = open("bad/run/tune-last.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
at = 8 + n + json.loads(data[8:8 + n])["state"]["data_offsets"][0]
assert struct.unpack("<q", data[at:at + 8])[0] == 1
PYTHON
nan_model spoiled-val start 16 20
# shellcheck disable=SC2046
expect 1 $(nan_run bad-val spoiled-val m)
err_has 'the loss before the first step is not finite'
nan_model nan-val m 16 20
# shellcheck disable=SC2046
expect 1 $(nan_run bad-reference start nan-val)
err_has '^eqat: nan-val: the hidden states are not finite'

expect 1 eval m --reference nan-val --text m/tokens.npy --context 32
err_has '^eqat: nan-val: the logits are not finite in window 1[6-9]'

# The teacher's windows are kept in parts: the first stands when the second cannot be made, and the
# next call leaves it alone.
for call in 1 2; do
    expect 1 tune start -o parts -q --reference nan-val --calib m/tokens.npy --samples 20 \
        --val-samples 0 --seqlen 32 --precision f32 --teacher-top 16
    err_has "window 1[6-9]: the full-precision model's logits are not finite"
    stat -c '%i %y' parts/run/tune-teacher-00000.safetensors >"part$call"
done
cmp part1 part2 || complain "a part of the teacher's windows was made again"

# Instructions and conversations, files mixed by weight; a format that the model lacks is named.
tiny t --tokenizer
expect 0 quantize t -o tq -q --method rtn --init mse --bits 2 --group 32
for line in $(seq 40); do
    echo "{\"instruction\": \"Add $line and 1.\", \"output\": \"It is $((line + 1)), I think.\"}"
done >orders.jsonl
for line in $(seq 40); do echo "{\"text\": \"$line $((line * line * 7919)) and $line\"}"; done >text.jsonl
said() { # folder, data, option...
    local folder=$1 data=$2
    shift 2
    echo tune tq -o "$folder" -q --reference t --calib "$data" --samples 4 --val-samples 1 \
        --seqlen 200 --tune-epochs 1 --precision f32 "$@"
}
# shellcheck disable=SC2046
expect 0 $(said orders orders.jsonl)
# What is measured on the finished model is what was trained: answers, and nothing but answers.
# shellcheck disable=SC2046
expect 0 $(said answers orders.jsonl --kl 0 --ce 1 --json)
cp .theme/out answers.json
grep -q 'held out from the training, answers only' answers/README.md ||
    complain "answers/README.md: does not say what was counted"
python3 - <<'PYTHON' || complain "the card's perplexity is not that of the answers"
import json, math
found = math.log(json.load(open("answers.json"))["val_perplexity"])
lines = [json.loads(line) for line in open("answers/run/log.jsonl")]
wanted = min(line["val_loss"] for line in lines if "val_loss" in line)
assert abs(found - wanted) < 1e-3 * wanted, (found, wanted)
PYTHON
# shellcheck disable=SC2046
expect 0 $(said mixed orders.jsonl:3,text.jsonl:1)
cmp -s orders/model.safetensors mixed/model.safetensors && complain "the mix changes nothing"
echo '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}' \
    >talk.jsonl
# shellcheck disable=SC2046
expect 2 $(said no talk.jsonl)
err_has 'talk.jsonl.*line 1.*--chat-format'
