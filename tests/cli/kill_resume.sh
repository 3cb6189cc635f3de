# kill -9 at many moments of a run; resumed, it ends with the bytes of a run left alone.
moments=6
run_files=$(printf '%s\n' lock log.jsonl plan.json)
tiny m

whole_run() { # epochs, folder: an undisturbed run; sets `took` to its milliseconds
    local begin end
    rm -rf "$2"
    begin=$(date +%s%N)
    # shellcheck disable=SC2046  # small_run gives separate words
    expect 0 $(small_run "$2" --epochs "$1")
    end=$(date +%s%N)
    took=$(((end - begin) / 1000000))
}

# As many epochs as make the run last about a second and a half on this machine and build.
epochs=4
whole_run $epochs whole
while [ "$took" -lt 1200 ] && [ $epochs -lt 4000 ]; do
    epochs=$((epochs * 1500 / (took < 150 ? 150 : took) + 1))
    whole_run $epochs whole
done

seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

# killed FOLDER STREAMS MILLISECONDS: run for so long at most; true when it was killed
killed() {
    # shellcheck disable=SC2046
    "$EQAT" $(small_run "$1" --epochs $epochs --streams "$2") >.theme/out 2>.theme/err &
    local job=$!
    sleep "$(seconds "$3")"
    kill -KILL $job 2>/dev/null
    wait $job 2>/dev/null
    [ $? -eq 137 ]
}

finished() { # folder, streams; a line that a full disk cut short stays one line
    [ ! -s "$1/run/log.jsonl" ] || grep -q '^{"cut"' "$1/run/log.jsonl" ||
        printf '{"cut"' >>"$1/run/log.jsonl"
    # shellcheck disable=SC2046
    expect 0 $(small_run "$1" --epochs $epochs --streams "$2")
    same whole "$1"
    [ "$(grep -vc '^{.*}$' "$1/run/log.jsonl")" -le 1 ] || complain "$1/run/log.jsonl has broken lines"
    [ -z "$(find "$1" -name '*.tmp*')" ] || complain "$1 keeps: $(find "$1" -name '*.tmp*')"
    [ "$(ls "$1/run")" = "$run_files" ] || complain "$1/run keeps: $(ls "$1/run")"
}

# A fresh run, killed once, at moments spread over its whole length.
hits=0
for streams in ram file; do
    for moment in $(seq $moments); do
        rm -rf out
        delay=$((took * (2 * moment - 1) / (2 * moments)))
        # The run may be faster than the one that was timed: then it is killed earlier.
        until killed out $streams $delay; do
            rm -rf out
            delay=$((delay / 2))
            [ $delay -gt 5 ] || continue 2
        done
        hits=$((hits + 1))
        finished out $streams
    done
done
[ $hits -eq $((2 * moments)) ] || complain "only $hits of $((2 * moments)) kills hit a running program"

# What a killed process can leave behind is gone after the next call, even of a finished run.
for left in out/model.safetensors.tmp-1 out/run/plan.json.tmp-1 out/run/stream-full-00003.tmp \
    out/run/stream-full-00003 out/run/block-00000.safetensors; do
    echo left >$left
done
finished out file

# One run, killed again and again, until it is through.
rm -rf out
for round in $(seq 40); do
    killed out file $((took / 3 + round * took / 40)) || break
done
finished out file
