#!/usr/bin/env python3
"""The page of `eqat serve` in a headless Chromium, with the standard library.

  check_page.py EQAT [MODEL] [--picture FILE]

Chromium is spoken to over its debugging pipe (file descriptors 3 and 4, objects of JSON that end with
NUL). The page must ask for the token, show an answer as it comes, show text as text, stop an answer,
forget a chat, and load nothing from elsewhere.
"""
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

from server import Server

DEFAULT = "models/smollm2-135m-instruct.gguf"
WAIT = 120  # seconds for one thing to happen


class Browser:
    def __init__(self, folder):
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        assert program, "no chromium (scripts/setup.sh --clients)"
        to_read, self.out = os.pipe()
        self.input, to_write = os.pipe()

        def descriptors():
            # The pipes may have numbers 3 or 4 themselves.
            high_read, high_write = os.dup2(to_read, 100), os.dup2(to_write, 101)
            os.dup2(high_read, 3)
            os.dup2(high_write, 4)

        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run",
             "--disable-background-networking", "--window-size=800,700"],
            preexec_fn=descriptors, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []

    def receive(self):
        end = time.monotonic() + WAIT
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.input], [], [], 1)
            data = os.read(self.input, 1 << 16) if ready else b""
            assert data or not ready, "chromium has closed the pipe"
            assert time.monotonic() < end, "chromium does not answer"
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && document.getElementById('form') !== null")

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")

    def until(self, script):
        end = time.monotonic() + WAIT
        while not self.run(script):
            assert time.monotonic() < end, f"never: {script}: {self.text()}"
            time.sleep(0.1)

    def text(self):
        return self.run("document.body.innerText")

    def say(self, text):
        """Type a message and press Enter."""
        self.run("document.getElementById('text').focus()")
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                      windowsVirtualKeyCode=13)

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(WAIT)


ANSWERS = "[...document.querySelectorAll('.assistant')]"
IDLE = "document.getElementById('send').textContent === 'Send'"
SPEAKS = f"{ANSWERS}.at(-1)?.textContent.length > 0"


def set_field(browser, name, value):
    browser.run(f"{{ const f = document.getElementById('{name}'); f.value = '{value}'; "
                "f.dispatchEvent(new Event('change')); }")


def check_token(browser):
    browser.until("document.querySelector('.error')?.textContent.includes('token')")
    set_field(browser, "token", "sesame")
    browser.until("document.getElementById('model').textContent === 'small'")
    browser.run("document.getElementById('new').click()")


def check_answers(browser):
    set_field(browser, "temperature", "0")
    set_field(browser, "tokens", "40")
    browser.say("What is the capital of France?")
    browser.until(f"{IDLE} && {ANSWERS}.length === 1")
    assert "Paris" in browser.text(), browser.text()
    browser.say("Repeat this: <img src=x onerror='document.title=1'><b>bold</b>")
    browser.until(f"{IDLE} && {ANSWERS}.length === 2")
    assert browser.run("document.querySelectorAll('main img, main b').length") == 0
    assert "<b>bold</b>" in browser.text()
    assert browser.run("messages.map((m) => m.role).join()") == "user,assistant,user,assistant"


def check_stop(browser):
    set_field(browser, "tokens", "2000")
    browser.say("Write a very long story about a river.")
    browser.until(SPEAKS)
    grown = browser.run(f"{ANSWERS}.at(-1).textContent.length")
    browser.until(f"{ANSWERS}.at(-1).textContent.length > {grown} || {IDLE}")  # it comes in parts
    browser.run("document.getElementById('send').click()")
    browser.until(IDLE)
    browser.until("document.body.innerText.includes('(stopped)')")
    browser.run("document.getElementById('new').click()")
    assert browser.run("document.getElementById('log').children.length") == 0
    set_field(browser, "tokens", "5")
    browser.say("Hello")
    browser.until(f"{IDLE} && {ANSWERS}.length === 1")
    assert "(cut)" in browser.text() or browser.run(SPEAKS)


def check_requests(browser, url):
    """What the page asked for, and what it complained about."""
    asked = [e["params"]["request"]["url"] for e in browser.events
             if e.get("method") == "Network.requestWillBeSent"]
    foreign = [u for u in asked if not u.startswith((url, "data:", "about:"))]
    assert asked and not foreign, foreign
    thrown = [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown"]
    assert not thrown, thrown
    blocked = [e for e in browser.events if e.get("method") == "Log.entryAdded"
               and "Content Security Policy" in e["params"]["entry"]["text"]]
    assert not blocked, blocked


def main():
    arguments = sys.argv[1:]
    picture = None
    if "--picture" in arguments:
        at = arguments.index("--picture")
        picture = arguments[at + 1]
        del arguments[at:at + 2]
    eqat, model = arguments[0], (arguments[1:] or [DEFAULT])[0]
    with Server(eqat, model, "--name", "small", "--activations", "exact",
                token="sesame") as server, \
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(folder)
        try:
            browser.open(server.url + "/")
            check_token(browser)
            check_answers(browser)
            if picture:
                shot = browser.call("Page.captureScreenshot")["data"]
                with open(picture, "wb") as out:
                    out.write(base64.b64decode(shot))
            check_stop(browser)
            check_requests(browser, server.url)
            browser.close()
        finally:
            browser.process.kill()
    print(f"chromium: the page talks to {model}")


if __name__ == "__main__":
    main()
