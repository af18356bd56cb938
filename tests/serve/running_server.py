"""`baize serve` in another process, for tests of the service."""

import json
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import httpx
import openai

PATIENCE = 300  # seconds: a busy machine is slow, not wrong


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


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
        return openai.OpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0, timeout=PATIENCE, **options)

    def get(self, path, **options):
        return httpx.get(self.url + path, timeout=PATIENCE, **options)

    def post(self, path, json=None, **options):
        return httpx.post(self.url + path, json=json, timeout=PATIENCE, **options)

    def connect(self):
        connection = socket.create_connection((self.host, self.port), timeout=PATIENCE)
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

    @contextmanager
    def held(self, path="/v1/completions", **options):
        """A streamed request whose client reads nothing, and so much does not fit into the system's buffers: it runs until
        the test reads from the socket that this gives, or leaves it. The server must have --write-timeout for it."""
        body = {"prompt": "a", "max_tokens": 16000, "stream": True, "ignore_eos": True, "logprobs": 20} | options
        data = json.dumps(body)
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(PATIENCE)
            reader.connect((self.host, self.port))
            reader.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n{data}".encode())
            assert reader.recv(12) == b"HTTP/1.1 200"
            yield reader

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

    def wait(self, timeout=PATIENCE):
        _, errors = self.process.communicate(timeout=timeout)
        self.errors += errors
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def rest_of(reader):
    """The end of what comes until the server closes the connection, or cuts it."""
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    tail = b""
    try:
        while piece := reader.recv(1 << 20):
            tail = tail[-1000:] + piece
    except ConnectionResetError:
        pass
    return tail
