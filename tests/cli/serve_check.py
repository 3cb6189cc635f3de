#!/usr/bin/env python3
"""What clients see of `eqat serve`, with nothing but the standard library.

  serve_check.py EQAT MODEL SLOW

MODEL and SLOW are by make_model.py, with a tokenizer for chats; SLOW has so many blocks that an
answer takes a while.

Every check prints a complaint; the exit code is 1 if there was one.
"""
import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

WAIT = 120  # seconds for one thing to happen
EQAT, MODEL, SLOW = sys.argv[1:4]
complaints = 0
ENDLESS = {"repetition_penalty": 0.1, "temperature": 0, "cache_prompt": False}


def check(good, *what):
    global complaints
    if not good:
        complaints += 1
        print(f"serve_check.py:{sys._getframe(1).f_lineno}:", *what, file=sys.stderr)


def same(found, wanted):
    check(found == wanted, f"{found!r} is not {wanted!r}")


class Server:
    """A running server; used in a with statement, at whose end it must stop by itself."""

    def __init__(self, model, *options, env=None):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [EQAT, "serve", model, "--port", "0", *options], stdout=subprocess.PIPE,
            stderr=self.log, text=True, env={**os.environ, **(env or {})})
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on http://([\d.]+|\[::1\]):(\d+)\n", line)
        if not match:
            sys.exit(f"no ready line but {line!r}: {self.lines()}")
        self.host, self.port = match[1].strip("[]"), int(match[2])

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            self.process.kill()
        else:
            self.stop(signal.SIGTERM)

    def stop(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)
        same(self.process.wait(WAIT), 0)

    def lines(self):
        self.log.seek(0)
        return self.log.read().splitlines()

    def wait_for(self, pattern):
        """The first line of the log that matches."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            for line in self.lines():
                if re.search(pattern, line):
                    return line
            time.sleep(0.02)
        check(False, f"no /{pattern}/ in the log: {self.lines()}")
        return ""

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=WAIT)

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of a response; a body that is no string becomes JSON."""
        connection = self.connect()
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body, {**kind, **(headers or {})})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if response.headers.get("Content-Type") == "application/json" and method != "HEAD":
            data = json.loads(data)
        return response.status, response.headers, data

    def complete(self, **body):
        status, _, answer = self.ask("POST", "/v1/completions", body)
        check(status == 200, status, answer)
        return answer

    def chat(self, text, **body):
        messages = [{"role": "user", "content": text}]
        status, _, answer = self.ask("POST", "/v1/chat/completions", {"messages": messages, **body})
        check(status == 200, status, answer)
        return answer

    def refused(self, status, param, part, body, path="/v1/completions"):
        found, _, answer = self.ask("POST", path, body)
        error = answer.get("error", {})
        check((found, error.get("param")) == (status, param) and part in error.get("message", ""),
              found, answer, "to", body)
        same(set(error), {"message", "type", "param", "code"})

    def stream(self, path, body):
        """The objects of a stream one by one, as they come; ends with the connection."""
        connection = self.connect()
        connection.request("POST", path, json.dumps({**body, "stream": True}),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        same(response.status, 200)
        same(response.headers["Content-Type"], "text/event-stream")
        try:
            yield from events(response)
        finally:
            connection.close()


def events(response):
    done = False
    for line in response:
        if line == b"\n":
            continue
        check(not done and line.startswith(b"data: "), "not an event:", line)
        done = line == b"data: [DONE]\n"
        if not done:
            yield json.loads(line[len(b"data: "):].decode("utf-8"))
    if not done:
        yield "broken off"


def spoken(*arguments, text=None):
    """What `eqat ARGUMENT...` says as JSON."""
    run = subprocess.run([EQAT, *arguments, "--json", "-q"], capture_output=True, text=True,
                         input=text, check=False)
    return json.loads(run.stdout)


def open_stream(server, **body):
    """A connection with a stream on it whose first event has come."""
    connection = server.connect()
    connection.request("POST", "/v1/completions",
                       json.dumps({"prompt": "abc", "stream": True, **ENDLESS, **body}),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    same(response.status, 200)
    return connection, response


# ---- answers ------------------------------------------------------------------------------------

def check_pages(server):
    name = os.path.basename(MODEL)
    same(server.ask("GET", "/health")[2], {"status": "ok"})
    models = server.ask("GET", "/v1/models")[2]
    same([m["id"] for m in models["data"]], [name])
    same(server.ask("GET", "/v1/models/" + name)[2], models["data"][0])
    same(server.ask("GET", "/v1/models/other")[0], 404)
    status, headers, page = server.ask("GET", "/?x=1")
    check(status == 200 and b"<title>eqat</title>" in page, "no page")
    check("default-src 'none'" in headers["Content-Security-Policy"], "no policy")
    check(not re.search(rb"(src|href)=.?https?:", page), "the page loads from elsewhere")
    status, headers, body = server.ask("HEAD", "/")
    same((status, int(headers["Content-Length"]), body), (200, len(page), b""))
    for path, method, wanted in (("/none", "GET", 404), ("/v1/completions", "GET", 405),
                                 ("/health", "POST", 405), ("/v1/models", "OPTIONS", 405),
                                 ("/" + "x" * 500, "GET", 404), ("/v1/../health", "GET", 404)):
        status, headers, body = server.ask(method, path)
        same((status, body["error"]["type"]), (wanted, "invalid_request_error"))
        check(wanted != 405 or "Allow" in headers, "405 without Allow")
        check("Access-Control-Allow-Origin" not in headers, "CORS is on")


def check_texts(server):
    said = spoken("generate", MODEL, "-p", "abc", "-n", "24", "--temperature", "0")
    wanted = {"prompt": "abc", "max_tokens": 24, "temperature": 0, "cache_prompt": False}
    answer = server.complete(**wanted, model=os.path.basename(MODEL))
    choice = answer["choices"][0]
    same((choice["text"], choice["finish_reason"]), (said["text"], said["finish_reason"]))
    same(answer["usage"], {"prompt_tokens": 3, "completion_tokens": said["tokens"],
                           "total_tokens": 3 + said["tokens"],
                           "prompt_tokens_details": {"cached_tokens": 0}})
    check(answer["object"] == "text_completion" and answer["id"].startswith("cmpl-"), answer)
    same(len(server.complete(**{**wanted, "max_tokens": None, "logprobs": 0})
             ["choices"][0]["logprobs"]["tokens"]), 16)
    for prompt in (["abc", "abc"], [97, 98, 99], [[97, 98, 99], [97, 98, 99]]):
        choices = server.complete(**{**wanted, "prompt": prompt})["choices"]
        check(all(c["text"] == said["text"] for c in choices), prompt, choices)
        same([c["index"] for c in choices], list(range(2 if len(prompt) == 2 else 1)))
    again = server.complete(**{**wanted, "cache_prompt": True})
    same(again["usage"]["prompt_tokens_details"]["cached_tokens"], 2)


def check_chat(server):
    said = spoken("chat", MODEL, "--temperature", "0", "-n", "20", text="one\n")
    answer = server.chat("one", temperature=0, max_completion_tokens=20)
    choice = answer["choices"][0]
    same(choice["message"], {"role": "assistant", "content": said["text"], "refusal": None})
    same(choice["finish_reason"], said["finish_reason"])
    same(answer["usage"]["prompt_tokens"], said["prompt_tokens"])
    same(answer["object"], "chat.completion")
    parts = [{"type": "text", "text": "o"}, {"type": "text", "text": "ne"}]
    same(server.chat(parts, temperature=0, max_tokens=20)["choices"][0]["message"],
         choice["message"])
    messages = [{"role": "developer", "content": "S"}, {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "refusal": None, "annotations": []},
                {"role": "user", "content": "c", "name": "n"}]
    status, _, answer = server.ask("POST", "/v1/chat/completions",
                                   {"messages": messages, "max_tokens": 2})
    check(status == 200 and answer["usage"]["prompt_tokens"] > 50, answer)


def joined(parts, field):
    return "".join(field(p["choices"][0]) for p in parts if p["choices"])


def check_streams(server):
    wanted = {"prompt": "abc", "max_tokens": 60, "temperature": 1, "seed": 5, "cache_prompt": False}
    whole = server.complete(**wanted)
    parts = list(server.stream("/v1/completions", wanted))
    same(joined(parts, lambda c: c["text"]), whole["choices"][0]["text"])
    same(parts[-1]["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"])
    check(all(p["choices"][0]["finish_reason"] is None for p in parts[:-1]), parts)
    check(len(parts) > 5 and len({p["id"] for p in parts}) == 1, parts)
    parts = list(server.stream("/v1/completions",
                               {**wanted, "stream_options": {"include_usage": True}}))
    same(parts[-1]["usage"], whole["usage"])
    check(parts[-1]["choices"] == [] and all(p["usage"] is None for p in parts[:-1]), parts[-2:])

    messages = [{"role": "user", "content": "hi"}]
    wanted = {"messages": messages, "max_tokens": 30, "temperature": 1, "seed": 7,
              "cache_prompt": False}
    whole = server.ask("POST", "/v1/chat/completions", wanted)[2]
    parts = list(server.stream("/v1/chat/completions", wanted))
    same(parts[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
    same(joined(parts, lambda c: c["delta"].get("content", "")),
         whole["choices"][0]["message"]["content"])
    same({p["object"] for p in parts}, {"chat.completion.chunk"})
    several = list(server.stream("/v1/chat/completions", {**wanted, "n": 2}))
    for index in range(2):
        own = [p for p in several if p["choices"][0]["index"] == index]
        alone = server.ask("POST", "/v1/chat/completions", {**wanted, "seed": 7 + index})[2]
        same(joined(own, lambda c: c["delta"].get("content", "")),
             alone["choices"][0]["message"]["content"])


def check_parameters(server):
    wanted = {"prompt": "abc", "max_tokens": 100, "temperature": 1, "seed": 3,
              "cache_prompt": False}
    first = server.complete(**wanted)["choices"][0]["text"]
    same(server.complete(**wanted)["choices"][0]["text"], first)
    check(server.complete(**{**wanted, "seed": 4})["choices"][0]["text"] != first, "seeds do nothing")
    stop = re.search("[A-Za-z0-9]{2}", first)[0]
    for stops in (stop, ["never", stop]):
        choice = server.complete(**wanted, stop=stops)["choices"][0]
        same((choice["text"], choice["finish_reason"]), (first.split(stop)[0], "stop"))
        parts = list(server.stream("/v1/completions", {**wanted, "stop": stops}))
        same(joined(parts, lambda c: c["text"]), first.split(stop)[0])
    greedy = server.complete(**{**wanted, "temperature": 0})["choices"][0]["text"]
    for option in ({"top_k": 1}, {"min_p": 1}, {"top_p": 1e-9}):
        same(server.complete(**{**wanted, "temperature": 2, **option})["choices"][0]["text"], greedy)
    check(server.complete(**{**wanted, "temperature": 0, "repetition_penalty": 50})
          ["choices"][0]["text"] != greedy, "the penalty does nothing")
    neutral = {"user": "me", "tools": [], "presence_penalty": 0.0, "echo": False, "suffix": None,
               "response_format": {"type": "text"}, "n": 1, "best_of": 1, "logit_bias": {}}
    same(server.complete(**wanted, **neutral)["choices"][0]["text"], first)


def check_logprobs(server):
    wanted = {"prompt": "abc", "max_tokens": 20, "temperature": 0}
    found = server.complete(**wanted, logprobs=3)["choices"][0]["logprobs"]
    same({len(found[k]) for k in found}, {len(found["tokens"])})
    for token, own, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"]):
        check(own < 0 and len(top) == 3 and max(top, key=top.get) == token and top[token] == own,
              token, own, top)
    found = server.chat("one", max_tokens=20, temperature=0, logprobs=True, top_logprobs=2)
    tokens = found["choices"][0]["logprobs"]["content"]
    text = bytes(b for t in tokens for b in t["bytes"]).decode(errors="replace")
    same(text, found["choices"][0]["message"]["content"])
    check(all(t["top_logprobs"][0]["bytes"] == t["bytes"] for t in tokens), tokens)
    check(server.chat("one", max_tokens=2)["choices"][0]["logprobs"] is None, "logprobs unasked")


def check_together(server):
    """Several at once say what each says alone."""
    bodies = [{"prompt": text * 3, "max_tokens": 40 + 5 * i, "temperature": i % 2, "seed": i,
               "cache_prompt": False}
              for i, text in enumerate(("abc", "de", "f", "ghijk", "lm" * 60, "n", "opq", "r"))]
    alone = [server.complete(**body)["choices"][0]["text"] for body in bodies]
    found = [None] * len(bodies)

    def run(i):
        if i % 3:
            found[i] = server.complete(**bodies[i])["choices"][0]["text"]
        else:
            found[i] = joined(server.stream("/v1/completions", bodies[i]), lambda c: c["text"])

    for _ in range(3):
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        same(found, alone)
    prompts = [body["prompt"] for body in bodies]
    answer = server.complete(prompt=prompts, max_tokens=30, temperature=0, cache_prompt=False)
    for i, choice in enumerate(answer["choices"]):
        one = server.complete(prompt=prompts[i], max_tokens=30, temperature=0, cache_prompt=False)
        same((choice["index"], choice["text"]), (i, one["choices"][0]["text"]))


# ---- what is wrong ------------------------------------------------------------------------------

def check_errors(server):
    chat = "/v1/chat/completions"
    hello = {"messages": [{"role": "user", "content": "x"}]}
    for body in ("", "{", "nonsense", "[1]", '"x"', b"\xff{}", '{"prompt": "\\u0000"}',
                 '{"prompt": "a", "prompt": "b"}', "[" * 100000, '{"n": 1e999}'):
        server.refused(400, None, "the body is not", body)
    p = {"prompt": "abc"}
    for param, value in (
            ("temperature", -1), ("temperature", "1"), ("top_p", 0), ("top_p", 1.5), ("min_p", 2),
            ("top_k", -1), ("top_k", 1.5), ("max_tokens", 0), ("max_tokens", 2 ** 40), ("n", 0),
            ("n", 5), ("seed", "x"), ("stop", [""]), ("stop", ["x"] * 17), ("stop", 1),
            ("stream", 1), ("logprobs", 21), ("stream_options", []), ("cache_prompt", 0),
            ("stream_options", {"x": 1}), ("repetition_penalty", 0), ("echo", True),
            ("suffix", "x"), ("best_of", 2), ("frequency_penalty", 0.5), ("logit_bias", {"1": 2}),
            ("unheard_of", 1), ("messages", []), ("top_logprobs", 1)):
        server.refused(400, param, f"'{param}'", {**p, param: value})
    for prompt in ([], 1, {}, [[]], [-1], [259], [1.5], ["a", 1], [["a"]], [None]):
        server.refused(400, "prompt", "'prompt' must be", {"prompt": prompt})
    server.refused(400, "prompt", "missing", {})
    server.refused(400, "prompt", "no tokens", {"prompt": ""})
    server.refused(400, "prompt", "exceed the context of 512", {**p, "max_tokens": 510})
    server.refused(400, "prompt", "exceed the context", {"prompt": "x" * 512})
    server.refused(400, "prompt", "texts are asked for", {"prompt": ["x"] * 100})
    server.refused(404, "model", "is not here", {**p, "model": "gpt-9"})
    for param, value in (("tools", [{}]), ("tool_choice", "auto"), ("functions", [{}]),
                         ("response_format", {"type": "json_object"}), ("logprobs", 1),
                         ("modalities", ["audio"]), ("prompt", "x")):
        server.refused(400, param, f"'{param}'", {**hello, param: value}, chat)
    server.refused(400, "top_logprobs", "needs 'logprobs'", {**hello, "top_logprobs": 2}, chat)
    for messages, part in (
            ([], "list of messages"), ("x", "list of messages"), ([1], "must have the role"),
            ([{"role": "tool", "content": "x"}], "must have the role"),
            ([{"role": "user"}], "must be a text"),
            ([{"role": "user", "content": [{"type": "image_url"}]}], "parts of type text"),
            ([{"role": "user", "content": "x", "tool_calls": [1]}], "'tool_calls'"),
            ([{"role": "assistant", "content": "x"}], "should be the user's"),
            ([{"role": "user", "content": "x"}] * 2, "should be the assistant's")):
        status, _, answer = server.ask("POST", chat, {"messages": messages})
        check(status == 400 and part in answer["error"]["message"] and
              answer["error"]["param"].startswith("messages"), answer)
    same(server.ask("POST", "/v1/completions", "{}", {"Content-Type": "text/plain"})[0], 415)
    same(server.ask("GET", "/health", headers={"Host": "evil.example:80"})[0], 403)
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:1", "10.1.2.3"):
        same(server.ask("GET", "/health", headers={"Host": host})[0], 200)
    for host in ("localhost.evil", "127.0.0.1.evil", "[::1", "[::1]x", "", "x" * 200):
        same(server.ask("GET", "/health", headers={"Host": host})[0], 403)


def check_mutations(server):
    """Bodies with bytes changed at random get an answer, and the server goes on."""
    rng = random.Random(1)
    seeds = [{"prompt": "abc", "max_tokens": 2, "stop": ["x"], "stream": False, "n": 2, "seed": 1},
             {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
              "max_tokens": 2, "temperature": 0.5, "logprobs": True, "top_logprobs": 1}]
    connection = server.connect()
    for i in range(300):
        body = bytearray(json.dumps(seeds[i % 2]).encode())
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(body))
            kind = rng.randrange(3)
            if kind == 0:
                body[at] = rng.choice(b'"{}[],:0123456789.-eaux\\\xff\x00 ')
            elif kind == 1:
                del body[at:at + rng.randrange(1, 9)]
            else:
                body[at:at] = body[rng.randrange(len(body)):][:9]
        path = "/v1/chat/completions" if i % 2 else "/v1/completions"
        connection.request("POST", path, bytes(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        check(response.status in (200, 400, 404), response.status, body)
        if response.headers["Content-Type"] == "application/json":
            check("error" in json.loads(data) or response.status == 200, data)
    connection.close()


def raw(server, data):
    """A socket on which these bytes were sent."""
    s = socket.create_connection((server.host, server.port), WAIT)
    s.sendall(data)
    return s


def check_http():
    with Server(MODEL, "--max-body", "1K", "--read-timeout", "1", "--host", "::1") as server:
        big = json.dumps({"prompt": "x" * 3000})
        same(server.ask("POST", "/v1/completions", big)[0], 413)
        chunks = (big[i:i + 500].encode() for i in range(0, len(big), 500))
        connection = server.connect()
        connection.request("POST", "/v1/completions", chunks,
                           {"Content-Type": "application/json"}, encode_chunked=True)
        same(connection.getresponse().status, 413)
        connection.close()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\n"
        with raw(server, head + b"Content-Length: 3000\r\nExpect: 100-continue\r\n\r\n") as s:
            check(s.recv(100).startswith(b"HTTP/1.1 413"), "no 413 before the body")
        with raw(server, b"\x16\x03\x01 nonsense\r\n\r\n") as s:
            check(not s.recv(100).startswith(b"HTTP/1.1 2"), "nonsense is answered")
        # Slow ones: each is hung up on, however it spreads its bytes.
        slow = [raw(server, part) for part in (
            b"", head[:30], head + b"Content-Length: 900\r\n\r\n{",
            head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n")]
        end = time.monotonic() + WAIT
        waiting = set(slow)
        while waiting and time.monotonic() < end:
            for s in list(waiting):
                try:
                    s.sendall(b" ")
                    s.settimeout(0.05)
                    if s.recv(500) == b"":
                        waiting.remove(s)
                except TimeoutError:
                    pass
                except OSError:
                    waiting.remove(s)
        check(not waiting, f"{len(waiting)} slow clients are still connected")
        for s in slow:
            s.close()
        same(server.ask("GET", "/health")[0], 200)


def check_token():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("sesame-1\n")
        file.flush()
        for options, env in ((("--token", file.name), {"EQAT_TOKEN": "other"}),
                             ((), {"EQAT_TOKEN": "sesame-1"})):
            with Server(MODEL, *options, env=env) as server:
                for given in (None, "", "Bearer", "Bearer ", "Bearer sesame-2", "Bearer sesame-1 ",
                              "Bearer sesame", "sesame-1", "Basic sesame-1", "Bearer other"):
                    headers = {} if given is None else {"Authorization": given}
                    status, found, answer = server.ask("GET", "/v1/models", headers=headers)
                    same((status, answer if status == 200 else answer["error"]["code"],
                          found["WWW-Authenticate"]), (401, "invalid_api_key", "Bearer"))
                same(server.ask("POST", "/v1/completions", {"prompt": "a"})[0], 401)
                same(server.ask("GET", "/none")[0], 401)
                own = {"Authorization": "bearer sesame-1", "Host": "a.name.of.mine"}
                same(server.ask("GET", "/v1/models", headers=own)[0], 200)
                same(server.ask("GET", "/health")[0], 200)
                same(server.ask("GET", "/")[0], 200)
                check("sesame" not in "".join(server.lines()), "the token is in the log")


# ---- clients that leave, limits, the end --------------------------------------------------------

def until_free(server):
    """Ask until the request is not refused."""
    end = time.monotonic() + WAIT
    while True:
        status, _, answer = server.ask("POST", "/v1/completions", {"prompt": "abc"})
        if status == 429 and time.monotonic() < end:
            time.sleep(0.05)
            continue
        check(status == 200, "the slots are never free:", status, answer)
        return


def check_leaving():
    with Server(SLOW, "--slots", "1", "--max-waiting", "1") as server:
        for stream in (True, False):
            connection = server.connect()
            connection.request("POST", "/v1/completions",
                               json.dumps({"prompt": "ab", **ENDLESS, "max_tokens": 500,
                                           "stream": stream}),
                               {"Content-Type": "application/json"})
            if stream:
                connection.getresponse().readline()
            connection.sock.close() if not stream else connection.close()
        # Both have left, one while it waited perhaps: the slot is free for the next.
        until_free(server)
        end = time.monotonic() + WAIT
        left = []
        while len(left) < 2 and time.monotonic() < end:
            left = [line for line in server.lines() if " 499 " in line]
            time.sleep(0.02)
        same(len(left), 2)
        for line in left:
            check(int(re.search(r"\+(\d+) tokens", line)[1]) < 500, "was not cancelled:", line)
        # A slot that writes, one text that waits: the third is refused, and goes when one ends.
        running = [open_stream(server, max_tokens=500) for _ in range(2)]
        status, headers, answer = server.ask("POST", "/v1/completions", {"prompt": "abc"})
        same((status, answer["error"]["type"]), (429, "rate_limit_error"))
        check("Retry-After" in headers, "no Retry-After")
        same(server.ask("GET", "/health")[0], 200)
        for connection, response in running:
            response.close()
            connection.close()
        until_free(server)


def check_timeout():
    with Server(SLOW, "--timeout", "0.2", "--context", "512") as server:
        body = {"prompt": "abc", **ENDLESS, "max_tokens": 500, "n": 4}
        status, headers, answer = server.ask("POST", "/v1/completions", body)
        same((status, answer["error"]["code"], headers["x-should-retry"]), (504, "timeout", "false"))
        parts = list(server.stream("/v1/completions", body))
        same((parts[-2]["error"]["code"], parts[-1]), ("timeout", "broken off"))
        server.wait_for(r"^POST /v1/completions 504 3\+\d+ tokens, ")
        same(server.ask("GET", "/health")[0], 200)


def check_end():
    for number in (signal.SIGTERM, signal.SIGINT):
        with Server(SLOW, "--slots", "1") as server:
            connection, response = open_stream(server, max_tokens=500)
            response.readline()
            waits = server.connect()
            waits.request("POST", "/v1/completions", json.dumps({"prompt": "abc"}),
                          {"Content-Type": "application/json"})
            server.ask("GET", "/health")  # what was sent before it has come
            server.process.send_signal(number)
            same(waits.getresponse().status, 503)
            *_, error, end = events(response)
            check(end == "broken off" and "shutting down" in error["error"]["message"], error, end)
            connection.close()
            waits.close()
            same(server.process.wait(WAIT), 0)


def check_log(server):
    server.wait_for(r"^GET /health 200 \d+\.\d\d s$")
    server.wait_for(r"^POST /v1/completions 200 3\+24 tokens, \d+\.\d\d s, \d+\.\d tokens/s$")
    server.wait_for(r"^GET /v1/models/other 404 ")


def main():
    global complaints
    with contextlib.redirect_stderr(io.StringIO()):
        same(1, 2)  # a wrong value: must be one complaint
    planted, complaints = complaints, 0
    same(planted, 1)
    with Server(MODEL, "--slots", "4", "--max-waiting", "16") as server:
        for run in (check_pages, check_texts, check_chat, check_streams, check_parameters,
                    check_logprobs, check_together, check_errors, check_mutations, check_log):
            run(server)
    for run in (check_http, check_token, check_leaving, check_timeout, check_end):
        run()
    return complaints > 0


if __name__ == "__main__":
    sys.exit(main())
