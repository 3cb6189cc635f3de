# Logits in numpy's format: header, size, and the same bytes for any number of threads.
tiny m --tied
expect 0 logits m --tokens 1,2,3,4,5 -o one.npy --precision f32 --threads 1
head -c 6 one.npy | cmp -s - <(printf '\x93NUMPY') || complain "no numpy magic"
head -c 128 one.npy | tr -d '\0' | grep -aqE "'<f4'.*False.*\(5, ?257\)" || complain "npy header"
[ "$(stat -c %s one.npy)" -eq $((128 + 4 * 5 * 257)) ] || complain "npy size"
expect 0 logits m --tokens '1 2 3 4 5' -o two.npy --precision f32 --threads 3 --json
out_json 'r == {"output": "two.npy", "tokens": 5, "vocabulary": 257}'
cmp -s one.npy two.npy || complain "threads change the logits"
expect 2 logits m --tokens 1,257 -o bad.npy
err_has 257
[ -e bad.npy ] && complain "a failure left an output file"
