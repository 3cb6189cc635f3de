# The same bytes for any number of threads and wherever the streams live.
tiny m
for threads in 1 2 16; do
    # shellcheck disable=SC2046  # small_run gives separate words
    expect 0 $(small_run "t$threads" --epochs 2 --threads $threads --streams ram)
done
# shellcheck disable=SC2046
expect 0 $(small_run file --epochs 2 --streams file)
same t1 t2
same t1 t16
same t1 file
# shellcheck disable=SC2046
expect 0 $(small_run seed --epochs 2 --seed 77)
cmp -s t1/model.safetensors seed/model.safetensors && complain "the seed changes nothing"
