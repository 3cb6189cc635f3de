# Runs that stop and go on: --stop-after, Ctrl-C, changed options, changed data.
tiny m
# shellcheck disable=SC2046  # small_run gives separate words
expect 0 $(small_run whole --epochs 2)

for streams in ram file; do
    # shellcheck disable=SC2046
    expect 130 $(small_run "$streams" --epochs 2 --streams $streams --stop-after 1)
    err_has 'the same command goes on'
    # shellcheck disable=SC2046
    expect 130 $(small_run "$streams" --epochs 2 --streams $streams --stop-after 1)
    # shellcheck disable=SC2046
    expect 0 $(small_run "$streams" --epochs 2 --streams $streams --json)
    out_json 'r["blocks_resumed"] == 2'
    same whole "$streams"
done

# Another option or other data: refused with the reason, and the folder stays as it was.
# shellcheck disable=SC2046
expect 130 $(small_run part --epochs 2 --stop-after 1)
for change in '--bits 3' '--group 16' '--grid asymmetric' '--epochs 3' '--quant-lr 1e-3' '--init minmax' \
    '--samples 15' '--loss mse --init mse'; do
    # shellcheck disable=SC2046,SC2086
    expect 1 $(small_run part --epochs 2) $change
    err_lines 1
    err_has 'part'
done
cp m/tokens.npy tokens.npy
printf '\001' | dd of=m/tokens.npy bs=1 seek=200 conv=notrunc 2>/dev/null
# shellcheck disable=SC2046
expect 1 $(small_run part --epochs 2)
err_lines 1
cp tokens.npy m/tokens.npy
# shellcheck disable=SC2046
expect 0 $(small_run part --epochs 2)
same whole part

# Windows that the model writes are made only for a run that goes on, and kept only there.
ls -lR part >before
for change in '' '--seed 9'; do
    # shellcheck disable=SC2046,SC2086
    expect 1 $(small_run part --epochs 2) --calib self $change
    err_has 'part/run/plan.json'
    ls -lR part >after
    cmp -s before after || complain "a refused run changed the folder"
    # shellcheck disable=SC2046,SC2086
    expect 130 $(small_run wrote --epochs 2) --calib self --stop-after 1
    [ -e wrote/run/calib.npy ] || complain "the run did not keep its windows"
done
# shellcheck disable=SC2046
expect 1 $(small_run wrote --epochs 2) --calib self --seed 9
err_has 'seed'

# Killed while the model writes, the next call goes on with the windows that were there.
write_run() { # folder
    echo quantize m -o "$1" --method rtn --init weighted --bits 4 --group 32 --calib self \
        --samples 360 --init-windows 360 --seqlen 256 --precision f32
}
# shellcheck disable=SC2046
"$EQAT" $(write_run killed) >.theme/out 2>.theme/err &
job=$!
until [ -n "$(find killed -name 'calib.tmp-*.npy' 2>/dev/null)" ]; do
    kill -0 $job || break
    sleep 0.01
done
kill -KILL $job
wait $job 2>/dev/null
[ -e killed/run/plan.json ] && complain "killed too late: $(cat .theme/err)"
# shellcheck disable=SC2046
expect 0 $(write_run killed)
err_has 'windows are there already'
# shellcheck disable=SC2046
expect 0 $(write_run whole-text)
same killed whole-text
cmp killed/run/calib.npy whole-text/run/calib.npy || complain "the windows are others"
[ -z "$(find killed -name 'calib.tmp*')" ] || complain "a part of the windows is left"

# What does not change the result does not stand in the way.
# shellcheck disable=SC2046
expect 130 $(small_run free --epochs 2 --stop-after 1 --threads 1)
# shellcheck disable=SC2046
expect 0 $(small_run free --epochs 2 --threads 2 --memory 1G --seed 9 --order random-doc \
    --instructions chat --chat-format chatml --source-max 7 --target-max 7)
same whole free
expect 0 quantize m -o plain -q --method rtn --init mse --bits 2 --group 32
expect 0 quantize m -o plain -q --method rtn --init mse --bits 2 --group 32 --calib none.npy \
    --samples 3 --seqlen 5 --seed 2 --epochs 7 --loss mse --quant-lr 1 --precision f32

# Ctrl-C: stops at the next step, exit code 130, says how to go on; then it goes on.
# shellcheck disable=SC2046
"$EQAT" $(small_run stopped --epochs 4000) >.theme/out 2>.theme/err &
job=$!
sleep 0.5
kill -INT $job
wait $job 2>/dev/null
code=$?
[ $code -eq 130 ] || complain "Ctrl-C: exit code $code, expected 130"
err_has 'stopping after this step'
out_lines 0
[ -e stopped/model.safetensors ] && complain "Ctrl-C: wrote a model"
err_has 'the same command goes on'

# Another instruction set goes on with a warning.
if EQAT_ISA=avx2 "$EQAT" inspect m >/dev/null 2>&1; then
    # shellcheck disable=SC2046
    EQAT_ISA=avx2 expect 130 $(small_run kernels --epochs 1 --stop-after 1)
    # shellcheck disable=SC2046
    EQAT_ISA=ref expect 0 $(small_run kernels --epochs 1 | sed 's/ -q / /')
    err_has 'started with kernels for avx2 and goes on with those for ref'
fi
