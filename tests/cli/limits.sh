# Too little memory, a full disk, a folder in use, weights that are no numbers: one clear line.
tiny m
# shellcheck disable=SC2046  # small_run gives separate words
expect 0 $(small_run whole --epochs 2)

failed() { # text that the message must have, then the arguments
    local text=$1
    shift
    expect 1 "$@"
    out_lines 0
    err_lines 1
    err_has "^eqat: .*$text"
}

# Memory: refused before anything is made, and other options may be tried in the same folder.
# shellcheck disable=SC2046
failed 'needs [0-9.]+ MiB.*--memory.*--streams file' $(small_run small --memory 100K --streams ram)
[ -e small ] && complain "a plan that does not fit left a folder"
# shellcheck disable=SC2046
failed '--memory' $(small_run small --memory 100K --streams file)
grep -q -e '--streams file' .theme/err && complain "advises what is chosen already"
# The windows count, and measuring the finished model, which may need more than a block's step.
few() { # option...: a run on long windows that are never read
    echo quantize m -o small -q --calib m/tokens.npy --group 32 --val-samples 1 --seqlen 512 \
        --tune-epochs 0 --precision f32 --streams file --threads 2 "$@"
}
# shellcheck disable=SC2046
failed 'the run needs [0-9]{4}[.][0-9] MiB.*--memory' $(few --samples 1000000 --block-samples 0 --memory 1G)
# shellcheck disable=SC2046
failed 'measuring the finished model needs.*--memory' $(few --samples 1 --memory 5800K)
[ -e small ] && complain "a card that does not fit left a folder"
# shellcheck disable=SC2046
expect 0 $(small_run small --epochs 2 --memory 64M)
same whole small

# A folder in use.
# shellcheck disable=SC2046
"$EQAT" $(small_run busy --epochs 1000000) >/dev/null 2>&1 &
job=$!
for wait in $(seq 100); do
    [ -s busy/run/log.jsonl ] && break
    sleep 0.05
done
# shellcheck disable=SC2046
failed 'busy/run.*another process' $(small_run busy --epochs 1000000)
kill -KILL $job
wait $job 2>/dev/null

# Weights that are no numbers: with training and without, and when only the embedding has one.
poison() { # tensor: a copy of m, called sick, in which its second value is not a number
    rm -rf sick
    cp -r m sick
    python3 - "$1" <<'PYTHON'
import json, struct, sys
with open("sick/model.safetensors", "r+b") as file:
    size = struct.unpack("<Q", file.read(8))[0]
    tensor = json.loads(file.read(size))[sys.argv[1]]
    file.seek(8 + size + tensor["data_offsets"][0] + 4)
    file.write(struct.pack("<f", float("nan")))
PYTHON
}
for name in self_attn.v_proj mlp.down_proj post_attention_layernorm; do
    poison "model.layers.1.$name.weight"
    failed "block 2/3: $name.weight" quantize sick -o "rtn-$name" -q --method rtn --init minmax \
        --group 32
    failed "block 2/3: $name.weight" quantize sick -o "ap-$name" -q --group 32 \
        --calib m/tokens.npy --samples 16 --val-samples 4 --seqlen 32
done
poison model.embed_tokens.weight
expect 1 quantize sick -o ap -q --group 32 --calib m/tokens.npy --samples 16 --val-samples 4 \
    --seqlen 32
err_has '^warning: block 1/3, step [0-9]+: the loss is not finite; going back'
err_has '^eqat: block 1/3, step [0-9]+: the loss is not finite, at half the rates too'
[ -e ap/model.safetensors ] && complain "wrote a model of what is not finite"

# A full disk: whatever cannot be written, the run goes on once there is room.
full_disk() { # message, then a command that runs eqat and keeps its exit code in `code`
    [ "$code" -eq 1 ] || complain "full disk: exit code $code, expected 1: $(cat .theme/err)"
    out_lines 0
    err_lines 1
    err_has "^eqat: .*$1"
}
for size in 8 16 100; do
    code=0
    # shellcheck disable=SC2046
    (
        trap '' XFSZ
        # Blocks of 1 KiB. The output goes through pipes, which have no limit.
        ulimit -f $size
        "$EQAT" $(small_run "limit-$size" --epochs 2) 2>&1 >/dev/null
        echo "code $?"
    ) | cat >.theme/both
    code=$(sed -n 's/^code //p' .theme/both)
    grep -v '^code ' .theme/both >.theme/err
    : >.theme/out
    full_disk 'File too large'
    # shellcheck disable=SC2046
    expect 0 $(small_run "limit-$size" --epochs 2)
    same whole "limit-$size"
done

mkdir disk
mount -t tmpfs -o size=1m none disk 2>/dev/null || skip "the part with a full disk needs root"
trap 'umount disk; rm -rf "$WORK"' EXIT
for streams in ram file; do
    for size in 4 40 100 240; do
        rm -rf disk/*
        mount -o remount,size=${size}k disk
        # shellcheck disable=SC2046
        eqat $(small_run disk/o --epochs 2 --streams $streams)
        code=$?
        full_disk 'No space left'
        mount -o remount,size=8m disk
        # shellcheck disable=SC2046
        expect 0 $(small_run disk/o --epochs 2 --streams $streams)
        same whole disk/o
    done
done
