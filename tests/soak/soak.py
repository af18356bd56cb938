#!/usr/bin/env python3
"""Mixed load on a server for a long time: `make soak`, ten minutes unless SOAK_SECONDS says otherwise.

Usage: tests/soak/soak.py [--program build-asan/baize] [--seconds 600] [--clients 24] [--seed 1]

Serves the tiny chat model of the tests and sends it short, long, streamed, cancelled, malformed, pipelined and far too
large requests, from clients that also read slowly, stop reading, send slowly, close one half or vanish. Every request must
get its whole answer or its proper error. Every 30 seconds all clients pause: then nothing may run or wait, and no page of the
cache be held. At the end memory may not have grown by more than --slack MiB since the warm-up. At last SIGTERM: exit code 0,
and no report of a sanitizer. Prints a line every 30 seconds and a summary; exit code 1 if anything was wrong.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/cli"))
import chat_model  # noqa: E402

CONTEXT = 2048
READ_TIMEOUT = 4  # seconds
PATIENCE = 120  # seconds for any one request: far more than the slowest takes on a busy machine
ROUND = 30  # seconds between two pauses
SHARED = "The same beginning of many questions. " * 12


class Wrong(Exception):
    """A request did not end as it must."""


class Server:
    def __init__(self, program, model):
        env = {k: v for k, v in os.environ.items() if not k.startswith("BAIZE_")}
        # What is freed is held back by the sanitizer for a while: little, lest it look like growth.
        env["ASAN_OPTIONS"] = "quarantine_size_mb=4:thread_local_quarantine_size_kb=64:detect_leaks=1"
        env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
        env["LLVM_PROFILE_FILE"] = "/dev/null"
        self.store = tempfile.TemporaryDirectory()
        self.log = tempfile.TemporaryFile("w+")
        env["BAIZE_HOME"] = self.store.name
        self.process = subprocess.Popen(
            [program, "serve", str(model), "--port", "0", "--ctx", str(CONTEXT), "--threads", "1", "--parallel", "16",
             "--queue", "64", "--cache", str(8 * CONTEXT), "--read-timeout", str(READ_TIMEOUT), "--write-timeout", "4",
             "--idle-timeout", "5"],
            env=env, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        found = re.search(r" at http://127\.0\.0\.1:(\d+)$", line.strip())
        if not found:
            raise Wrong(f"no server: {line}{self.errors()}")
        self.port = int(found[1])

    def errors(self):
        self.log.seek(0)
        return self.log.read()

    def resident(self):
        """MiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


class Connection:
    """HTTP/1.1 by hand, so that it can also be done wrongly."""

    def __init__(self, port):
        self.port = port

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 16)
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def head(self):
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        return int(lines[0].split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:-2])}

    async def pieces(self, headers):
        """The body as it comes; ends only where the server says that it is whole."""
        if "content-length" in headers:
            yield await self.reader.readexactly(int(headers["content-length"]))
            return
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)

    async def answer(self):
        status, headers = await self.head()
        return status, b"".join([piece async for piece in self.pieces(headers)])


def message(path, body=None, headers="", method=None):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1\r\nHost: soak\r\n{headers}"
    return (head + (f"Content-Length: {len(data)}\r\n" if body is not None else "") + "\r\n").encode() + data


class Load:
    """The kinds of requests. Each method is one, and raises if it does not end as it must."""

    def __init__(self, port, rng):
        self.port, self.rng = port, rng
        self.kinds = [self.short, self.short, self.chat, self.chat, self.long, self.shared, self.shared, self.several,
                      self.logprobs, self.cancelled, self.cancelled, self.half_closed, self.slow_reader, self.deaf_reader,
                      self.slow_sender, self.pipelined, self.malformed, self.malformed, self.broken_http, self.huge_headers,
                      self.big_body, self.long_prompt, self.left_early, self.idle, self.other_paths]

    def text(self, length):
        return "".join(self.rng.choices("abcdefghijklmnop qrst", k=length))

    def body(self, tokens, **more):
        return {"prompt": self.text(self.rng.randint(1, 60)), "max_tokens": tokens, "ignore_eos": True, "seed": 1} | more

    async def ask(self, path, body, want=200):
        """A whole exchange; returns the body, parsed unless it is a stream. A full queue is waited for."""
        for _ in range(1000):
            async with Connection(self.port) as c:
                await c.send(message(path, body))
                status, data = await c.answer()
            if status != 429:
                break
            await asyncio.sleep(0.1)
        if status != want:
            raise Wrong(f"{path}: {status}, not {want}: {data[:300]}")
        if data.startswith(b"data: "):
            return self.check_stream(data, body)
        parsed = json.loads(data)
        if want >= 400 and not parsed["error"]["message"]:
            raise Wrong(f"{path}: an error without a sentence: {data[:300]}")
        return parsed

    def check_stream(self, data, body):
        *events, done, rest = data.decode().split("\n\n")
        if done != "data: [DONE]" or rest or "error" in events[-1]:
            raise Wrong(f"a stream ends with {data[-300:]}")
        reasons = [json.loads(e.removeprefix("data: "))["choices"][0]["finish_reason"] for e in events]
        if sum(r is not None for r in reasons) != body.get("n", 1):
            raise Wrong(f"a stream has the wrong number of ends: {data[-300:]}")
        return events

    async def check_completion(self, body):
        answer = await self.ask("/v1/completions", body)
        want = body["max_tokens"] * body.get("n", 1)
        if not body.get("stream") and answer["usage"]["completion_tokens"] != want:
            raise Wrong(f"{answer['usage']} for {want} tokens")

    async def short(self):
        await self.check_completion(self.body(self.rng.randint(1, 8), stream=self.rng.random() < 0.5))

    async def chat(self):
        messages = [{"role": r, "content": self.text(30)} for r in ("system", "user", "assistant", "user")]
        body = {"messages": messages, "max_tokens": self.rng.randint(1, 40), "stream": self.rng.random() < 0.5}
        await self.ask("/v1/chat/completions", body)

    async def long(self):
        await self.check_completion(self.body(self.rng.randint(300, 900), stream=True))

    async def shared(self):
        await self.check_completion(self.body(4, prompt=SHARED + self.text(20)))

    async def several(self):
        prompts = [self.text(20) for _ in range(3)]
        answer = await self.ask("/v1/completions", self.body(10, prompt=prompts, n=2, temperature=1.5))
        if len(answer["choices"]) != 6:
            raise Wrong("not every prompt was answered")

    async def logprobs(self):
        await self.check_completion(self.body(12, logprobs=5, echo=True, return_token_ids=True))

    async def cancelled(self):
        async with Connection(self.port) as c:
            await c.send(message("/v1/completions", self.body(1500, stream=True, n=self.rng.randint(1, 3))))
            if self.rng.random() < 0.7:
                await c.head()
            await asyncio.sleep(self.rng.random() * 0.3)

    async def half_closed(self):
        async with Connection(self.port) as c:
            await c.send(message("/v1/completions", self.body(1500)))
            c.writer.write_eof()
            if data := await c.reader.read():  # the server drops such a request, or its refusal was quicker
                if b" 429 " not in data.split(b"\r\n")[0]:
                    raise Wrong(f"a half-closed connection got {data[:300]}")

    async def slow_reader(self):
        body = self.body(200, stream=True)
        async with Connection(self.port) as c:
            await c.send(message("/v1/completions", body))
            status, headers = await c.head()
            data = b""
            async for piece in c.pieces(headers):
                data += piece
                await asyncio.sleep(0.02 if len(data) < 20_000 else 0)
            if status != 429:
                self.check_stream(data, body)

    async def deaf_reader(self):
        async with Connection(self.port) as c:
            await c.send(message("/v1/completions", self.body(1500, stream=True, n=4, return_token_ids=True)))
            c.reader._transport.pause_reading()  # the system's buffers fill, then the server waits
            await asyncio.sleep(self.rng.random() * 10)

    async def slow_sender(self):
        data = message("/tokenize", {"prompt": self.text(40)})
        async with Connection(self.port) as c:
            started = time.monotonic()
            cut = self.rng.randint(1, len(data) - 1)
            await c.send(data[:cut])
            if self.rng.random() < 0.5:
                await asyncio.sleep(0.5)
                await c.send(data[cut:])
                want = 200
            else:
                want = 408
            status, answer = await c.answer()
            if status == 408 and time.monotonic() - started > READ_TIMEOUT:  # a busy machine may slow it down further
                return
            if status != want:
                raise Wrong(f"a slow sender of {data}, cut at {cut}, got {status}, not {want}: {answer}")

    async def pipelined(self):
        count = self.rng.randint(2, 60)
        async with Connection(self.port) as c:
            await c.send(message("/tokenize", {"prompt": self.text(30)}) * count + message("/v1/completions", self.body(5)))
            statuses = [(await c.answer())[0] for _ in range(count + 1)]
            if statuses[:-1] != [200] * count or statuses[-1] not in (200, 429):
                raise Wrong(f"pipelined requests got {statuses}")

    async def malformed(self):
        bad = [b"", b"{", b"[" * 50_000, b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b'{"a":' * 5000, b'{"prompt": 1e999}',
               b"\0" * 100, {"prompt": "x", "n": -1}, {"prompt": "x", "nonsense": 1}, {"prompt": [1e9]}, {"prompt": ["a"] * 300},
               {"prompt": "x", "logit_bias": {"999": 1}}, {"prompt": "x", "max_tokens": "many"}, {"prompt": "x", "stop": [""]}]
        await self.ask("/v1/completions", self.rng.choice(bad), want=400)

    async def broken_http(self):
        bad = [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/3.0\r\n\r\n", 505), (b"\x16\x03\x01" + b"a" * 200, 400),
               (b"GET / HTTP/1.1\r\n\r\n", 400), (message("/", None, "bad header\r\n"), 400),
               (message("/tokenize", None, "Content-Length: -1\r\n", "POST"), 400),
               (message("/tokenize", None, "Transfer-Encoding: chunked\r\n", "POST") + b"zz\r\n", 400)]
        await self.refused(*self.rng.choice(bad))

    async def refused(self, data, want):
        async with Connection(self.port) as c:
            await c.send(data)
            if (status := (await c.answer())[0]) != want:
                raise Wrong(f"{data[:80]} got {status}, not {want}")

    async def huge_headers(self):
        many = self.rng.choice(["A: b\r\n" * 10_000, "A: b\r\n" * 150, "A: " + "b" * 100_000 + "\r\n"])
        await self.refused(message("/health", None, many), 431)

    async def big_body(self):
        await self.refused(message("/tokenize", None, "Content-Length: 104857600\r\n", "POST") + b"x" * 200_000, 413)

    async def long_prompt(self):
        await self.ask("/v1/completions", self.body(1, prompt="a" * self.rng.randint(3000, 200_000)), want=400)

    async def left_early(self):
        data = message("/v1/completions", self.body(5))
        async with Connection(self.port) as c:
            await c.send(data[: self.rng.randint(0, len(data))])

    async def idle(self):
        async with Connection(self.port) as c:
            await c.send(message("/health"))
            await c.answer()
            if await c.reader.read():  # until the server is tired of waiting
                raise Wrong("the server said something on an idle connection")

    async def other_paths(self):
        for path, want in [("/v1/models", 200), ("/v1/models/none", 404), ("/openapi.json", 200), ("/nowhere", 404)]:
            await self.ask(path, None, want)
        await self.ask("/v1/completions", None, 405)


class Soak:
    def __init__(self, server, arguments):
        self.server, self.arguments = server, arguments
        self.rng = random.Random(arguments.seed)
        self.counts, self.problems = collections.Counter(), []
        self.resident = []  # MiB at every pause

    def problem(self, text):
        self.problems.append(text)
        print(f"soak: WRONG: {text}", flush=True)

    async def client(self, number, until):
        load = Load(self.server.port, random.Random(f"{self.arguments.seed} {number} {until}"))
        while time.monotonic() < until and len(self.problems) < 20 and self.server.process.poll() is None:
            kind = load.rng.choice(load.kinds)
            try:
                await asyncio.wait_for(kind(), PATIENCE)
                self.counts[kind.__name__] += 1
            except (Wrong, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError, LookupError) as error:
                self.problem(f"{kind.__name__}: {type(error).__name__}: {error}")

    async def metrics(self):
        async with Connection(self.server.port) as c:
            await c.send(message("/metrics"))
            _, data = await c.answer()
        return {m[1]: float(m[2]) for m in re.finditer(r"^(\w+)(?:\{[^}]*\})? ([\d.e+-]+)$", data.decode(), re.MULTILINE)}

    async def check_rest(self):
        """All clients are gone: so must be what they held."""
        gauges = ("baize_requests_running", "baize_requests_waiting", "baize_cache_pages_used")
        end = time.monotonic() + PATIENCE
        while True:
            found = await self.metrics()
            if not any(found[g] for g in gauges):
                break
            if time.monotonic() > end:
                return self.problem(f"after all requests have ended: {({g: found[g] for g in gauges})}")
            await asyncio.sleep(0.1)
        if found["baize_cache_pages_kept"] > found["baize_cache_pages"]:
            self.problem("more pages are kept than there are")

    async def run(self):
        started = time.monotonic()
        end = started + self.arguments.seconds
        while time.monotonic() < end and not self.problems:
            until = min(time.monotonic() + min(ROUND, self.arguments.seconds / 4), end)
            await asyncio.gather(*(self.client(n, until) for n in range(self.arguments.clients)))
            if self.server.process.poll() is not None:
                return self.problem(f"the server ended with {self.server.process.returncode}")
            await self.check_rest()
            self.resident.append(self.server.resident())
            print(f"soak: {time.monotonic() - started:6.0f} s  {sum(self.counts.values()):7} requests  "
                  f"{self.resident[-1]:7.1f} MiB resident  {len(self.problems)} wrong", flush=True)
        early, late = self.memory()
        if late > early + self.arguments.slack:
            self.problem(f"memory grew from {early:.1f} to {late:.1f} MiB, by more than {self.arguments.slack} MiB")

    def memory(self):
        """MiB after the warm-up and at the end: medians of a third of the pauses each, for allocators breathe. The first
        pause is the warm-up: by then buffers, caches and the sanitizer's quarantine have their size."""
        after = self.resident[1:] or self.resident or [0]
        third = (len(after) + 2) // 3
        return statistics.median(after[:third]), statistics.median(after[-third:])

    def stop(self):
        self.server.process.send_signal(signal.SIGTERM)
        try:
            code = self.server.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.server.process.kill()
            return self.problem("SIGTERM does not end the server")
        errors = self.server.errors()
        if code != 0:
            self.problem(f"the server ended with {code}")
        if "Sanitizer" in errors or "runtime error" in errors or "a request failed" in errors:
            self.problem(f"the server wrote:\n{errors[-10_000:]}")


def make_model(folder):
    goldens = ROOT / "tests/.data/hf"
    if not goldens.is_dir():
        with tarfile.open(ROOT / "tests/data/hf.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        goldens = folder / "hf"
    return chat_model.make_chat_model(folder / "tiny", goldens / "llama", max_position_embeddings=65536)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build-asan/baize")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK_SECONDS", 600)))
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slack", type=float, default=24, help="MiB that may be resident beyond those after the warm-up")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Server(arguments.program, make_model(Path(folder))), arguments)
        try:
            asyncio.run(soak.run())
            soak.stop()
        finally:
            soak.server.process.kill()
    print(f"soak: {sum(soak.counts.values())} requests ended as they must: "
          + ", ".join(f"{count} {kind}" for kind, count in sorted(soak.counts.items())))
    print("soak: resident {:.1f} MiB after the warm-up, {:.1f} MiB at the end".format(*soak.memory()))
    print(f"soak: {'FAILED' if soak.problems else 'passed'}, {len(soak.problems)} wrong")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
