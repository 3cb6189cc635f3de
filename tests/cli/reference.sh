# Perplexity of the real model on two texts against what transformers gives, where the texts are
# beside the repository (EQAT_SHARED names another place): windows of 2048, the first ten.
need_model
texts=${EQAT_SHARED:-$ROOT/../shared}/data/eval
[ -d "$texts" ] || skip "no $texts"

perplexity() { # text, precision, wanted value, share that it may be off
    expect 0 eval "$MODEL" -q --text "$texts/$1" --context 2048 --windows 10 --precision "$2" --json
    out_json "r['windows'] == 10 and r['tokens'] == 20470"
    out_json "abs(r['perplexity'] / $3 - 1) < $4"
}

perplexity wikitext2_test.txt f32 19.928 0.003
perplexity c4_heldout.txt f32 34.297 0.003
if has_bf16 "$MODEL"; then perplexity wikitext2_test.txt bf16 19.928 0.005; fi
