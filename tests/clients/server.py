"""A running `eqat serve`, for the scripts beside this one."""
import os
import signal
import subprocess


class Server:
    """In a with statement: listens at `url`, and must end well at the end of it."""

    def __init__(self, eqat, model, *options, token=None):
        env = {**os.environ, **({"EQAT_TOKEN": token} if token else {})}
        self.process = subprocess.Popen([eqat, "serve", model, "--port", "0", "-q", *options],
                                        stdout=subprocess.PIPE, text=True, env=env)
        self.url = self.process.stdout.readline().strip().removeprefix("listening on ")
        assert self.url.startswith("http://"), self.url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert code == 0, f"eqat serve: exit code {code}"
