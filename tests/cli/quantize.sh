# Quantization of a small model without a tokenizer: every width, the log, the summary, the folder.
tiny m
for bits in 2 3 4 8; do
    expect 0 quantize m -o "rtn$bits" -q --method rtn --init minmax --bits $bits --group 32 --json
    out_json "r['bits'] == $bits and r['group'] == 32 and r['blocks_resumed'] == 0"
    out_json "$bits < r['bits_per_weight'] < $bits + 1 and r['bytes'] > 0"
    out_json 'r["output"].startswith("rtn") and r["seconds"] > 0 and r["peak_memory"] > 0'
    expect 0 inspect "rtn$bits" --json
    out_json "r['bits'] == $bits and r['group'] == 32 and not r['tokenizer']"
done
expect 0 quantize m -o row -q --method rtn --init minmax --bits 4 --group -1
expect 0 inspect row --json
out_json 'r["bits"] == 4'
for start in minmax mse weighted; do
    expect 0 quantize m -o "start-$start" -q --method rtn --init $start --bits 3 --group 32 \
        --calib m/tokens.npy --samples 16 --seqlen 32 --init-windows 4
done

# shellcheck disable=SC2046  # small_run gives separate words
expect 0 $(small_run ap --epochs 2 --json)
out_json 'r["bits"] == 2 and r["blocks_resumed"] == 0'
python3 - <<'PYTHON' || complain "ap/run/log.jsonl"
import json, sys
lines = [json.loads(line) for line in open("ap/run/log.jsonl")]
keys = {"block", "epoch", "train_loss", "val_loss", "seconds"}
epochs = [(line["block"], line["epoch"]) for line in lines if keys <= set(line)]
sys.exit(0 if epochs == [(b, e) for b in range(3) for e in (1, 2)] else 1)
PYTHON

# Windows for the blocks, and passes over all of them when not given: 64, and work for 128.
tiny long --windows 100 --seqlen 8
windows() { # SAMPLES, windows of the blocks, passes of the whole model, OPTION...
    local samples=$1 blocks=$2 passes=$3
    shift 3
    expect 0 quantize long -o "windows-$samples" -q --preset fast --bits 3 --group 32 \
        --val-samples 0 --calib long/tokens.npy --samples "$samples" --seqlen 8 --precision f32 "$@"
    grep -A9 '"training"' "windows-$samples/run/plan.json" | grep -q "\"samples\": $blocks," ||
        complain "$samples windows: not $blocks for the blocks"
    grep -A2 '"end-to-end"' "windows-$samples/run/plan.json" | grep -q "\"epochs\": $passes," ||
        complain "$samples windows: not $passes passes of the whole model"
}
windows 40 40 3
windows 60 60 2
windows 2000 64 1
windows 30 7 2 --block-samples 7 --tune-epochs 2
windows 31 31 3 --block-samples 0
must_complain windows 40 40 2

# Without windows for validation there is no word of its loss.
# shellcheck disable=SC2046
expect 0 $(small_run blind --epochs 2 --tune-epochs 1 --val-samples 0 | sed 's/ -q / /')
err_has 'block 1/3, epoch 1: training loss [0-9.e+-]+, [0-9.]+ s'
err_has 'end to end, epoch 1: training loss [0-9.e+-]+, [0-9.]+ s'
grep -q 'validation loss' .theme/err && complain "a validation loss without windows for it"
grep -q 'val_loss' blind/run/log.jsonl && complain "blind/run/log.jsonl: has a validation loss"
expect 0 logits ap --tokens 1,2,3 -o ap.npy
expect 0 logits m --tokens 1,2,3 -o m.npy
cmp -s ap.npy m.npy && complain "quantization changed nothing"

# The symmetric grid: fixed zero points, scales of both signs, before and after training.
cat >symmetric.py <<'PYTHON'
import array, json, sys
folder = sys.argv[1]
config = json.load(open(folder + "/quantize_config.json"))
bits = config["bits"]
data = open(folder + "/model.safetensors", "rb").read()
start = 8 + int.from_bytes(data[:8], "little")
header = json.loads(data[8:start])
middle = sum(1 << bits * i + bits - 1 for i in range(32)).to_bytes(4 * bits, "little")
signs = set()
for name, t in header.items():
    raw = data[start:][slice(*t.get("data_offsets", (0, 0)))]
    if name.endswith(".qzeros"):  # rows of 32 n fields
        assert raw == middle * (len(raw) // len(middle)), name
    if name.endswith(".scales"):
        halves = array.array("H", raw)
        assert all(h & 0x7fff for h in halves), name
        signs |= {h >> 15 for h in halves}
assert config["sym"] is True and signs == {0, 1}, (config, signs)
PYTHON
for bits in 2 3 4 8; do
    expect 0 quantize m -o "sym$bits" -q --method rtn --init minmax --grid symmetric --bits $bits \
        --group 32
    python3 symmetric.py "sym$bits" || complain "sym$bits"
    expect 0 logits "sym$bits" --tokens 1,2,3 -o sym.npy
done
python3 symmetric.py rtn2 2>/dev/null && complain "symmetric.py does not see an asymmetric grid"
expect 0 quantize m -o symrow -q --method rtn --init mse --grid symmetric --bits 4 --group -1
python3 symmetric.py symrow || complain symrow
# shellcheck disable=SC2046
expect 0 $(small_run symap --epochs 2 --grid symmetric --quant-lr 0.1)
python3 symmetric.py symap || complain symap
# shellcheck disable=SC2046
expect 0 $(small_run symstart --epochs 0 --grid symmetric)
cmp -s symap/model.safetensors symstart/model.safetensors && complain "nothing was trained"

# A finished folder is recognised and left as it is.
cp -r ap before
# shellcheck disable=SC2046
expect 0 $(small_run ap --epochs 2 --json)
out_json 'r["blocks_resumed"] == 3'
same before ap

# Fewer windows than asked for: all there are.
# shellcheck disable=SC2046
expect 0 $(small_run few --epochs 2 --samples 19)
same ap few

# What does not fit is refused before anything is trained.
expect 2 quantize m -o no -q --method rtn --init minmax --bits 4 --group 48
err_has 48
expect 2 quantize m -o no -q --method rtn --init minmax --bits 4 --group 0
for option in '--beta1 1' '--beta2 1' '--epsilon 0' '--early-stop 2 --val-samples 0'; do
    # shellcheck disable=SC2046,SC2086
    expect 2 $(small_run no $option)
    err_lines 1
done
# shellcheck disable=SC2046
expect 2 $(small_run no --val-samples 30)
err_has '31'
expect 1 quantize ap -o no -q --method rtn --init minmax --bits 4 --group 32
err_lines 1
