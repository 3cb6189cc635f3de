# Text to ids and back, on the real tokenizer and on a byte tokenizer.
tiny m --tokenizer
expect 0 tokenize m --text 'AZ az'
out_has '^65 90 32 97 122$'
expect 0 tokenize m --text ''
out_lines 1
expect 0 tokenize m --text 'a<|end|>b' --json
out_json 'r == {"count": 3, "ids": [97, 256, 98]}'
expect 0 tokenize m --decode '72, 105'
[ "$(cat .theme/out)" = Hi ] || complain "decoded: $(cat .theme/out)"
tiny bare
expect 2 tokenize bare --text x
err_lines 1

need_model
expect 0 tokenize "$MODEL" --text 'Hello world'
out_has '^19556 905$'
err_lines 0
printf 'Hello world' | "$EQAT" tokenize "$MODEL" --stdin >.theme/out
out_has '^19556 905$'
expect 0 tokenize "$MODEL" --text 'Hello world' --special
"$EQAT" tokenize "$MODEL" --stdin <"$ROOT/LICENSE" >ids
"$EQAT" tokenize "$MODEL" --decode "$(cat ids)" | cmp -s - "$ROOT/LICENSE" ||
    complain "LICENSE does not survive tokenize and --decode"
text=$'tabs\t\tand   spaces 2024 \u00e9\u0301 \u65e5\u672c \U1F600\r\n\n end '
printf %s "$text" >text
"$EQAT" tokenize "$MODEL" --decode "$("$EQAT" tokenize "$MODEL" --text "$text")" | cmp -s - text ||
    complain "mixed text does not survive tokenize and --decode"
