# The same bytes for any number of threads and wherever the streams live.
tiny m
precisions=f32
has_bf16 m && precisions='f32 bf16'
for precision in $precisions; do
    for threads in 1 2 16; do
        # shellcheck disable=SC2046  # small_run gives separate words
        expect 0 $(small_run "$precision-$threads" --epochs 2 --threads $threads --streams ram) \
            --precision $precision
    done
    # shellcheck disable=SC2046
    expect 0 $(small_run "$precision-file" --epochs 2 --streams file) --precision $precision
    same $precision-1 $precision-2
    same $precision-1 $precision-16
    same $precision-1 $precision-file
done
if [ -e bf16-1 ] && cmp -s f32-1/model.safetensors bf16-1/model.safetensors; then
    complain "the precision changes nothing"
fi

# The seed draws documents and samples from the model; windows that are given stay as they are.
tiny t --tokenizer
for line in $(seq 60); do
    echo "{\"text\": \"$line $((line * line * 7919)) and $((line * 104729 % 977)) or $line\"}"
done >documents.jsonl
seeded() { # folder, seed, data
    expect 0 quantize t -o "$1" -q --bits 2 --group 32 --calib "$3" --order random-doc \
        --samples 8 --val-samples 2 --seqlen 12 --batch 2 --epochs 1 --precision f32 --seed "$2"
}
for data in documents.jsonl self; do
    seeded "$data-1" 1 $data
    seeded "$data-again" 1 $data
    seeded "$data-2" 2 $data
    same "$data-1" "$data-again"
    cmp -s "$data-1/model.safetensors" "$data-2/model.safetensors" &&
        complain "the seed changes nothing with $data"
done
