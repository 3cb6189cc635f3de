# Chats: lines from a pipe and from a terminal, commands, saved conversations, a full context.
tiny m --tokenizer --chat --vocabulary 259
# chat CODE LINES OPTION...: eqat chat m with these lines ends with this exit code
chat() {
    local wanted=$1 lines=$2 code
    shift 2
    printf '%b' "$lines" | "$EQAT" chat m "$@" >.theme/out 2>.theme/err
    code=$?
    [ "$code" -eq "$wanted" ] ||
        complain "chat $*: exit code $code, expected $wanted; $(head -c 500 .theme/err)"
}
# objects EXPRESSION: the lines of the last stdout as JSON, called r, make the expression true
objects() {
    python3 -c 'import json, sys
r = [json.loads(line) for line in open(".theme/out")]
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1" 2>.theme/json ||
        complain "JSON is not so: $1: $(head -c 500 .theme/out) $(tail -n 1 .theme/json)"
}
saved() { # the same of the messages in FILE, called m
    python3 -c 'import json, sys
m = json.load(open(sys.argv[1]))["messages"]
sys.exit(0 if eval(sys.argv[2]) else 1)' "$1" "$2" || complain "$1 is not so: $2: $(cat "$1")"
}

# <|im_start|>user\n ... <|im_end|>\n<|im_start|>assistant\n: 19 tokens besides the message
chat 0 'one\ntwo\n/save talk.json\n' -n 20 --json
objects 'len(r) == 2 and r[0]["prompt_tokens"] == 22 and r[0]["cached_tokens"] == 0'
objects 'r[1]["prompt_tokens"] > 44 and r[1]["cached_tokens"] >= 22'
objects 'all(x["finish_reason"] == "length" or x["tokens"] < 20 for x in r)'
objects 'all(x["dropped_turns"] == 0 for x in r)'
must_complain objects 'r[0]["prompt_tokens"] == 23'
saved talk.json '[x["role"] for x in m] == ["user", "assistant"] * 2'
saved talk.json '[x["content"] for x in m[::2]] == ["one", "two"]'
saved talk.json '[x["content"] for x in m[1::2]] == [
    json.loads(line)["text"] for line in open(".theme/out")]'
cp .theme/out first
chat 0 'one\ntwo\n' -n 20 --json --threads 1
objects '[x["text"] for x in r] == [json.loads(line)["text"] for line in open("first")]'
chat 0 'one\ntwo\n' -n 20 -q
[ -s .theme/err ] && grep -qv '^(the answer was cut after 20 tokens)$' .theme/err &&
    complain "-q: $(cat .theme/err)"

# A saved conversation goes on; so does one that was forgotten, from its start.
chat 0 'three\n/reset\none\n' -n 20 --json --load talk.json
objects 'r[0]["prompt_tokens"] > json.loads(open("first").read().splitlines()[1])["prompt_tokens"]'
objects 'r[1]["prompt_tokens"] == 22'

# System messages, and lines that are no commands.
chat 0 '/system Be brief.\n/system\na\n/system -\n/reset\na\n/save s.json\n' -n 3 --json
objects 'r[0]["prompt_tokens"] - r[1]["prompt_tokens"] == 19'
err_has '^Be brief\.$'
saved s.json 'm[0]["role"] == "user"'
chat 0 '//help\nsome \\\nlines\n\n/save s.json\n/quit\nnever\n' --system S -n 3
saved s.json '[x["content"] for x in m if x["role"] != "assistant"] == ["S", "/help", "some \nlines"]'
chat 0 'one\r\n/save s.json\r\n' -n 3
saved s.json 'm[0]["content"] == "one"'
chat 0 '/help\n'
err_has '^/save FILE'
out_lines 0

# No answer: a stop text at its very beginning. The conversation is as before.
chat 0 'abc\n' -n 30 --json
first=$(python3 -c 'import json; print(json.loads(open(".theme/out").readline())["text"].strip()[:1])')
chat 0 'abc\n/save none.json\n' -n 30 --json --stop "$first"
objects 'r[0]["text"].strip() == ""'
saved none.json 'not m or m[-1]["content"].isspace()'

# The context is full: the oldest turns go, the system message stays.
lines='aaaaaaaaaa\nbbbbbbbbbb\ncccccccccc\ndddddddddd\n/save full.json\n'
chat 0 "$lines" --context 140 -n 30 --system Rule --json
objects 'sum(x["dropped_turns"] for x in r) >= 2 and r[0]["dropped_turns"] == 0'
objects 'all(x["prompt_tokens"] + 30 <= 140 for x in r)'
err_has '^\(the context of 140 tokens is full: dropped the oldest turn\)$'
saved full.json 'm[0] == {"role": "system", "content": "Rule"} and m[-2]["content"] == "d" * 10'
chat 2 "$(printf '%0150d' 0)\n" --context 140
err_has '^eqat: the message needs 169 tokens, the context has 140$'

# What goes wrong ends a script.
chat 2 '/nonsense\nnever\n'
err_has '^eqat: no command /nonsense; /help lists them$'
out_lines 0
chat 2 '/save\n'
chat 1 'a\n/save absent/talk.json\n' -n 3
err_has '^eqat: absent/talk.json: No such file'
chat 1 '' --load absent.json
err_has '^eqat: absent.json: '
echo '{"messages": [{"role": "assistant", "content": "a"}]}' >wrong.json
chat 1 '' --load wrong.json
err_has '^eqat: wrong.json: message 1 has no string'
echo '{"messages": [{"role": "user", "content": "a"}]}' >wrong.json
chat 1 '' --load wrong.json
err_has 'the last message has no answer$'
echo '[1' >wrong.json
chat 1 '' --load wrong.json
err_has '^eqat: wrong.json: '
if [ -e /dev/full ]; then
    printf 'a\nb\n/save never.json\n' | "$EQAT" chat m -n 3 >/dev/full 2>.theme/err
    [ "${PIPESTATUS[1]}" -eq 1 ] || complain "a full disk: $(cat .theme/err)"
    [ -e never.json ] && complain "went on after a write error"
fi
chat 2 '' --chat-format zen
err_has "chat format 'zen' is not known"
chat 2 '' --chat-format llama3
err_has 'no special token <\|start_header_id\|>'
tiny plain --tokenizer
expect 2 chat plain
err_has '^eqat: plain has no chat template; name its format with --chat-format'
tiny bare
expect 2 chat bare
err_has 'has no tokenizer'

# Ctrl-C stops the answer, not the program.
tiny slow --tokenizer --chat --vocabulary 259 --blocks 60
mkfifo lines
"$EQAT" chat slow --repetition-penalty 0.1 --temperature 0 <lines >cut 2>notes &
pid=$!
exec 5>lines
echo 'talk for long' >&5
for _ in $(seq 400); do
    [ -s cut ] && break
    sleep 0.05
done
kill -INT $pid
for _ in $(seq 400); do
    grep -q stopped notes && break
    sleep 0.05
done
printf '/save cut.json\n/quit\n' >&5
exec 5>&-
wait $pid || complain "interrupted: exit code $?"
grep -q '^(stopped)$' notes || complain "Ctrl-C did not stop the answer: $(cat notes)"
saved cut.json 'len(m) == 2 and m[1]["content"] + "\n" == open("cut", newline="").read()'

python3 "$ROOT/tests/cli/chat_terminal.py" "$EQAT" m terminal.json 2>.theme/err ||
    complain "on a terminal: $(cat .theme/err)"
[ -e terminal.json ] &&
    saved terminal.json '[x["content"] for x in m[::2]] == ["first", "first", "na\u00efve"]'

need_model
printf 'What is the capital of France?\nAnd of Italy?\n' |
    "$EQAT" chat "$MODEL" --activations exact --precision f32 --temperature 0 -n 40 -q >.theme/out
out_has '^The capital of France is Paris\.'
out_has 'Rome'
