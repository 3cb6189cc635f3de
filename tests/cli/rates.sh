# Learning rates of the end-to-end phase: those for the bits of the model, unless they are given.
tiny m
tune() { # bits, folder, option...
    local bits=$1 out=$2
    shift 2
    echo tune "q$bits" -o "$out" --reference m --calib m/tokens.npy --samples 4 --val-samples 1 \
        --seqlen 32 --tune-epochs 1 --precision f32 "$@"
}
plan_has() { # folder, the rates of scales, norms and weights in its plan
    python3 -c 'import json, sys
p = json.load(open(sys.argv[1] + "/run/plan.json"))["end-to-end"]
rates = [p[k + "_lr"] for k in ("scale", "norm", "weight")]
sys.exit(0 if rates == [float(x) for x in sys.argv[2:]] else 1)' "$@" ||
        complain "$1/run/plan.json has other rates than ${*:2}"
}

rates=(- - '1e-3 5e-4' '2e-4 2e-4' '1e-4 1e-4' - - - '1e-4 1e-4')
for bits in 2 3 4 8; do
    expect 0 quantize m -o q$bits -q --method rtn --init mse --bits $bits --group 32
    # shellcheck disable=SC2046
    expect 0 $(tune $bits t$bits)
    # shellcheck disable=SC2086
    plan_has t$bits ${rates[bits]} 1e-5
done
# shellcheck disable=SC2046
expect 0 $(tune 2 given --tune-scale-lr 3e-4)
err_has '^plan: learning rates: scales 0\.0003, norms 0\.0005$'
plan_has given 3e-4 5e-4 1e-5
# shellcheck disable=SC2046
expect 0 $(tune 2 all --tune all --tune-norm-lr 0)
err_has '^plan: learning rates: scales 0\.001, norms 0, weights 1e-05$'
# shellcheck disable=SC2046
expect 0 $(tune 3 scales --tune scales)
err_has '^plan: learning rates: scales 0\.0002$'
must_complain plan_has t2 2e-4 2e-4 1e-5

# shellcheck disable=SC2046
expect 2 $(tune 2 no --tune-scale-lr -1)
# shellcheck disable=SC2046
expect 2 $(tune 2 no --tune scales --tune-scale-lr 0)
err_has 'nothing would be trained'
expect 0 tune --help
out_has 'learning rate of scales \(default by bits\)'
expect 0 quantize --help
grep -q 'by bits' .theme/out && complain "quantize leaves rates open"
