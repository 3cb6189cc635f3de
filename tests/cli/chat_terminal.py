#!/usr/bin/env python3
"""Talk to `eqat chat` on a pseudo-terminal.

  chat_terminal.py EQAT MODEL SAVED

Edits a line, takes one back from the history, interrupts a line and an answer, says too much, and
saves the conversation to SAVED. Exit code 1 with a message when something does not happen in time.
"""
import os
import pty
import select
import signal
import sys
import time

WAIT = 60  # seconds for one thing to happen


class Terminal:
    def __init__(self, arguments):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", LC_ALL="C.UTF-8")
            os.execv(arguments[0], arguments)

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        try:
            self.seen += os.read(self.fd, 4096) if ready else b""
        except OSError:  # the other end is closed
            return False
        return True

    def expect(self, text):
        """Wait for text, and forget what came before it."""
        end = time.monotonic() + WAIT
        while text not in self.seen:
            if time.monotonic() > end or not self.read(0.2):
                sys.exit(f"no {text!r} in {self.seen[-500:]!r}")
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def interrupt(self):
        """Ctrl-C until there is a new prompt: one that comes before the editor reads is lost."""
        end = time.monotonic() + WAIT
        while b"\n> " not in self.seen:
            if time.monotonic() > end:
                sys.exit(f"no prompt after Ctrl-C: {self.seen[-500:]!r}")
            self.send(b"\x03")
            again = time.monotonic() + 3
            while b"\n> " not in self.seen and time.monotonic() < again:
                self.read(0.2)
        self.expect(b"\n> ")

    def send(self, data):
        os.write(self.fd, data)

    def close(self):
        """Ctrl-D; the exit code. The program is killed when it does not end."""
        self.send(b"\x04")
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            self.read(0.2)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        sys.exit("the program did not end")


def main():
    program, model, saved = sys.argv[1:]
    chat = Terminal([program, "chat", model, "-n", "5"])
    chat.expect(b"\n> ")
    chat.send(b"firsz\x7ft\n")  # a letter is taken back
    chat.expect(b"answer 5 tokens")
    chat.expect(b"\n> ")
    chat.send(b"thrown away")
    chat.interrupt()
    chat.send(b"\x1b[A\n")  # the line before
    chat.expect(b"answer 5 tokens")
    chat.expect(b"\n> ")
    chat.send(b"/nonsense\n")
    chat.expect(b"no command /nonsense")
    chat.expect(b"\n> ")
    chat.send("na\u00efve\n".encode())
    chat.expect(b"answer 5 tokens")
    chat.expect(b"\n> ")
    chat.send(b"x" * 600 + b"\n")  # more than the context: what was said before stays
    chat.expect(b"the message needs")
    chat.expect(b"\n> ")
    chat.send(f"/save {saved}\n".encode())
    chat.expect(b"\n> ")
    code = chat.close()
    if code != 0:
        sys.exit(f"exit code {code}")


main()
