"""A running server for tests of the service."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
import chat_model as tiny  # noqa: E402


class Server:
    """`baize serve` on a free port. `errors` is what it wrote to standard error, once it has ended."""

    def __init__(self, program, env, *args):
        self.process = subprocess.Popen([program, "serve", *map(str, args), "--port", "0"], env=env,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.errors = ""
        line = self.process.stdout.readline()
        found = re.search(r" at (https?)://([^ ]+):(\d+)$", line.strip())
        if not found:
            self.errors = self.process.communicate()[1]
            raise AssertionError(f"no server: {line}{self.errors}")
        self.scheme, self.host, self.port = found[1], found[2].strip("[]"), int(found[3])
        self.url = f"{found[1]}://{found[2]}:{found[3]}"

    def client(self, key="none", **options):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0, timeout=60, **options)

    def get(self, path, **options):
        return httpx.get(self.url + path, timeout=60, **options)

    def post(self, path, json=None, **options):
        return httpx.post(self.url + path, json=json, timeout=60, **options)

    def connect(self):
        connection = socket.create_connection((self.host, self.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def talk(self, data, half_close=False):
        """Everything that the server answers to these bytes until it closes the connection."""
        with self.connect() as connection:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            out = b""
            while piece := connection.recv(65536):
                out += piece
            return out

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        total = 0
        for line in self.get("/metrics").text.splitlines():
            found = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? ([0-9.e+-]+)", line)
            if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                total += float(found[2])
        return total

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=60):
        _, errors = self.process.communicate(timeout=timeout)
        self.errors += errors
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


@pytest.fixture(scope="session")
def make_model(goldens, tmp_path_factory):
    """Makes a tiny model that can chat; config keys and the chat template can be changed."""
    return lambda **changes: tiny.make_chat_model(tmp_path_factory.mktemp("model") / "tiny", goldens / "llama",
                                                  **changes)


@pytest.fixture(scope="session")
def model(make_model):
    return make_model(max_position_embeddings=65536)


@pytest.fixture(scope="session")
def serve_env(tmp_path_factory):
    """The environment of a server: an empty store, no settings of the caller's."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BAIZE_")}
    return own | {"BAIZE_HOME": str(tmp_path_factory.mktemp("store"))}


@pytest.fixture
def start(program, serve_env, model):
    """Starts servers of the tiny model, or of those given by `models`, that end with the test."""
    running = []

    def run(*args, models=None, env=None):
        server = Server(program, serve_env | (env or {}), *(models or [model]), "--ctx", 16384, "--threads", 1, *args)
        running.append(server)
        return server

    yield run
    for server in running:
        server.close()


@pytest.fixture(scope="module")
def server(program, serve_env, model):
    """One server for a file of tests."""
    one = Server(program, serve_env, model, "--ctx", 16384, "--threads", 1, "--alias", "tiny-chat")
    yield one
    one.close()


# Biases under which only printable characters are drawn.
ONLY_TEXT = {str(i): -100 for i in range(128) if i < len(tiny.SPECIAL) or i >= tiny.ESCAPE - 1}


@pytest.fixture
def only_text():
    return ONLY_TEXT
