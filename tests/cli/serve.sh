# The server: what it refuses to start with, then what its clients see.
# As in tests/CMakeLists.txt: beside others, threads that spin take many times as long.
export OMP_WAIT_POLICY=passive
tiny m --tokenizer --chat --vocabulary 259
if "$EQAT" serve m --port 0 --host nowhere.invalid 2>&1 | grep -q 'this build has no server'; then
    expect 1 serve m
    skip "built without EQAT_SERVE"
fi
expect 2 serve m --host nowhere.invalid
err_has '^eqat: --host nowhere.invalid: '
expect 2 serve m --slots 0
err_has "^eqat serve: --slots is '0', must be a whole number from 1 to 256"
expect 2 serve m --context 513
err_has "a context of 513 tokens, allowed are 2 to the model's 512"
expect 1 serve m --token absent
err_has '^eqat: absent: No such file'
printf '\nx\n' >token
expect 2 serve m --token token
err_has '^eqat: token: the token must be one line'
EQAT_TOKEN='with space' expect 2 serve m
err_has '^eqat: EQAT_TOKEN: the token must be'
expect 2 serve m --chat-format zen
err_has "^eqat: .*chat format 'zen' is not known"
expect 2 serve m --name $'\xff'
err_has '^eqat: the name of the model is not UTF-8'
tiny bare
expect 2 serve bare
err_has '^eqat: bare has no tokenizer'
expect 1 serve m --memory 1K
err_has 'may use 0.0 MiB'
out_lines 0

# begin OPTION...: eqat serve in the background, its address in $url
begin() {
    "$EQAT" serve "$@" >ready 2>log &
    pid=$!
    for _ in $(seq 400); do
        [ -s ready ] && break
        sleep 0.05
    done
    url=$(grep -oE 'http://[^ "]+' ready)
    [ -n "$url" ] || complain "serve $*: not ready: $(cat log)"
}
# post PATH JSON: the answer of the server
post() {
    python3 -c 'import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(request, timeout=60).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())' "$url$1" "$2" >.theme/out
}

# A port that is taken; another name; --json.
begin m/ --port 0 --json --name other -q
cp ready .theme/out
out_json 'r["url"] == "http://127.0.0.1:%d" % r["port"] and r["model"] == "other"'
expect 1 serve m --port "${url##*:}"
err_has "^eqat: cannot listen on 127.0.0.1 port ${url##*:}: Address already in use"
post /v1/completions '{"model": "other", "prompt": "abc", "max_tokens": 3}'
out_json 'r["model"] == "other" and r["usage"]["completion_tokens"] <= 3'
kill -INT $pid
wait $pid || complain "SIGINT: exit code $?"
grep -v '^eqat: stopping' log | grep -q . && complain "-q: $(cat log)"

# Without a chat template chats are refused, texts are not; naming one helps.
tiny plain --tokenizer
begin plain --port 0
post /v1/chat/completions '{"messages": [{"role": "user", "content": "x"}]}'
out_json 'r["error"]["code"] == "no_chat_format" and "--chat-format" not in r["error"]["message"]'
grep -q '^chats are refused: plain has no chat template; name its format with --chat-format' log ||
    complain "nothing said about chats: $(cat log)"
post /v1/completions '{"model": "plain", "prompt": "abc", "max_tokens": 3}'
out_json 'r["choices"][0]["finish_reason"] in ("stop", "length")'
kill $pid
wait $pid || complain "SIGTERM: exit code $?"
begin plain --port 0 --chat-format mistral
post /v1/chat/completions '{"messages": [{"role": "user", "content": "x"}], "max_tokens": 3}'
out_json 'r["choices"][0]["message"]["role"] == "assistant"'
kill $pid
wait $pid || complain "SIGTERM: exit code $?"

tiny slow --tokenizer --chat --vocabulary 259 --blocks 60
python3 "$ROOT/tests/cli/serve_check.py" "$EQAT" m slow 2>.theme/err ||
    complain "clients: $(head -c 4000 .theme/err)"
