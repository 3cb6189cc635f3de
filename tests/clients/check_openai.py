#!/usr/bin/env python3
"""`eqat serve` as the `openai` package sees it, with the real model.

  check_openai.py EQAT [MODEL]       in the environment .venv-clients (make test-clients)
"""
import concurrent.futures
import subprocess
import sys

import openai

from server import Server

DEFAULT = "models/smollm2-135m-instruct.gguf"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def check_models(client, name):
    assert [m.id for m in client.models.list()] == [name]
    assert client.models.retrieve(name).owned_by == "eqat"


def check_chat(client, name):
    whole = client.chat.completions.create(
        model=name, messages=QUESTION, temperature=0, max_completion_tokens=30)
    text = whole.choices[0].message.content
    assert "Paris" in text, text
    assert whole.choices[0].finish_reason in ("stop", "length")
    usage = whole.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    stream = client.chat.completions.create(
        model=name, messages=QUESTION, temperature=0, max_completion_tokens=30, stream=True,
        stream_options={"include_usage": True}, extra_body={"cache_prompt": False})
    parts = list(stream)
    said = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
    assert said == text, (said, text)
    assert parts[-1].usage.completion_tokens == usage.completion_tokens
    again = client.chat.completions.create(
        model=name, messages=QUESTION, temperature=0, max_completion_tokens=5)
    assert again.usage.prompt_tokens_details.cached_tokens > 0
    scored = client.chat.completions.create(
        model=name, messages=QUESTION, temperature=0, max_completion_tokens=5, logprobs=True,
        top_logprobs=3)
    tokens = scored.choices[0].logprobs.content
    assert "".join(t.token for t in tokens) == scored.choices[0].message.content
    assert all(len(t.top_logprobs) == 3 and t.top_logprobs[0].token == t.token for t in tokens)


def check_completions(client, name, eqat, model):
    prompt = "The capital of France is"
    run = subprocess.run([eqat, "generate", model, "-p", prompt, "-n", "20", "--temperature", "0",
                          "-q", "--activations", "exact"], capture_output=True, text=True, check=True)
    answer = client.completions.create(model=name, prompt=prompt, max_tokens=20, temperature=0,
                                       extra_body={"cache_prompt": False})
    assert answer.choices[0].text == run.stdout[:-1], (answer.choices[0].text, run.stdout)
    several = client.completions.create(model=name, prompt=[prompt, "One, two,"], max_tokens=8, n=2,
                                        temperature=1, seed=1, stop=["\n"])
    assert [c.index for c in several.choices] == [0, 1, 2, 3]


def check_together(client, name):
    """Several at once say what each says alone."""
    def ask(i):
        stream = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": f"Count from {i} to {i + 5}."}],
            temperature=0.8, seed=i, max_tokens=25, stream=True, extra_body={"cache_prompt": False})
        return "".join(p.choices[0].delta.content or "" for p in stream)

    alone = [ask(i) for i in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == alone


def check_errors(client, url, name):
    def fails(kind, message, **arguments):
        try:
            client.chat.completions.create(**{"model": name, "messages": QUESTION, **arguments})
        except kind as error:
            assert message in str(error), error
            return
        raise AssertionError(f"no {kind.__name__}: {arguments}")

    fails(openai.BadRequestError, "'tools'", tools=[{"type": "function", "function": {"name": "f"}}])
    fails(openai.BadRequestError, "exceed the context", max_tokens=10 ** 6)
    fails(openai.NotFoundError, "is not here", model="gpt-9")
    wrong = openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0)
    try:
        wrong.models.list()
        raise AssertionError("a wrong token is taken")
    except openai.AuthenticationError:
        pass
    stream = client.chat.completions.create(model=name, messages=QUESTION, stream=True)
    next(iter(stream))
    stream.close()


def main():
    eqat, model = sys.argv[1], (sys.argv[2:] or [DEFAULT])[0]
    with Server(eqat, model, "--slots", "4", "--name", "small", "--activations", "exact",
                token="sesame") as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="sesame", max_retries=0)
        check_models(client, "small")
        check_chat(client, "small")
        check_completions(client, "small", eqat, model)
        check_together(client, "small")
        check_errors(client, server.url, "small")
    print(f"openai {openai.__version__}: {model} served as OpenAI's clients expect")


if __name__ == "__main__":
    main()
