"""From start to end: settings, ports, signals, many at once, an idle server."""

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest


def slow_request(tokens=16000):
    return {"prompt": "a", "max_tokens": tokens, "stream": True, "ignore_eos": True}


def running(server):
    return server.metric("baize_requests_running")


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


class Streaming:
    """A streamed request on a thread of its own."""

    def __init__(self, server, **options):
        self.text, self.started = "", threading.Event()
        self.thread = threading.Thread(target=self.run, args=(server.url, slow_request(**options)))
        self.thread.start()
        assert self.started.wait(30)

    def run(self, url, body):
        try:
            with httpx.stream("POST", url + "/v1/completions", json=body, timeout=60) as answer:
                for piece in answer.iter_text():
                    self.text += piece
                    self.started.set()
        except httpx.HTTPError:
            pass
        self.started.set()

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.text


def test_running_answers_are_finished(start):
    server = start("--grace", 600, "--write-timeout", 600)
    body = json.dumps(slow_request(8000) | {"logprobs": 20})
    with server.connect() as kept, socket.socket() as reader:
        # It reads nothing for now, and so much does not fit into the system's buffers: the answer runs as long as it likes.
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.settimeout(60)
        reader.connect((server.host, server.port))
        reader.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        server.terminate()
        wait_until(lambda: server.get("/health").status_code == 503)
        refused = server.post("/v1/completions", slow_request(1))
        assert refused.status_code == 503 and "shutting down" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        assert server.process.poll() is None
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        tail = b""
        while piece := reader.recv(1 << 20):
            tail = tail[-1000:] + piece
        assert tail.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert server.wait() == 0
        assert kept.recv(100) == b""


def test_grace_time_ends(start):
    server = start("--grace", 0.2)
    stream = Streaming(server)
    server.terminate()
    assert server.wait(30) == 0
    assert "[DONE]" not in stream.join()


def test_second_signal_ends_at_once(start):
    server = start("--grace", 600)
    stream = Streaming(server)
    server.terminate()
    time.sleep(0.3)
    server.terminate()
    assert server.wait(20) == 130
    assert "[DONE]" not in stream.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_at_once(start, number):
    server = start()
    client = httpx.Client()
    assert client.get(server.url + "/health").status_code == 200  # the connection stays
    server.process.send_signal(number)
    assert server.wait(20) == 0


def test_port_in_use(start, baize, model):
    server = start()
    sentence = baize.error(7, "serve", model, "--port", server.port)
    assert f"port {server.port} of 127.0.0.1 is in use" in sentence and "--port" in sentence


def test_addresses(start, baize, model):
    assert "--host" in baize.error(2, "serve", model, "--host", "no.such.host.invalid")
    assert "203.0.113.1" in baize.error(7, "serve", model, "--host", "203.0.113.1", "--port", 0)
    assert "65535" in baize.error(2, "serve", model, "--port", 70000)
    open_to_all = start("--host", "0.0.0.0")
    assert httpx.get(f"http://127.0.0.1:{open_to_all.port}/health").status_code == 200
    open_to_all.terminate()
    open_to_all.wait()
    assert "--api-key" in open_to_all.errors


def test_settings_from_file_and_environment(start, tmp_path, baize, model):
    file = tmp_path / "settings.toml"
    file.write_text('[serve]\nalias = ["from-file"]\napi-key = ["file-key"]\nmax-body = 2000\n')

    def names(server, key):
        return [m.id for m in server.client(key).models.list()]

    assert names(start("--config", file), "file-key") == ["from-file"]
    by_variable = start(env={"BAIZE_CONFIG": str(file), "BAIZE_IDLE_TIMEOUT": "60"})
    assert names(by_variable, "file-key") == ["from-file"]
    assert by_variable.post("/tokenize", content=b"x" * 3000).status_code == 413
    assert names(start("--config", file, "--alias", "from-option"), "file-key") == ["from-option"]
    assert names(start(env={"BAIZE_ALIAS": "from-env", "BAIZE_API_KEY": "env-key"}), "env-key") == ["from-env"]
    file.write_text("[serve]\nprot = 80\n")
    assert "prot" in baize.error(2, "--config", file, "serve", model)
    assert "missing.toml" in baize.error(2, "--config", "missing.toml", "serve", model)


def test_several_models(start, make_model, model, baize):
    other = make_model(template="{% for m in messages %}{{ m.content }}{% endfor %}", max_position_embeddings=512)
    server = start("--alias", "one,two", models=[model, other])
    client = server.client()
    assert [m.id for m in client.models.list()] == ["one", "two"]
    ask = [{"role": "user", "content": "x"}]
    usage = [client.chat.completions.create(model=m, messages=ask, max_tokens=1).usage.prompt_tokens for m in ("one", "two")]
    assert usage == [6, 1]
    with pytest.raises(openai.NotFoundError, match="one, two"):
        client.chat.completions.create(model="three", messages=ask)
    assert "--alias" in baize.error(2, "serve", model, "--alias", "a,b")
    assert "--alias" in baize.error(2, "serve", model, model)


def test_many_streams_at_once(start):
    server = start()
    body = slow_request(200) | {"temperature": 0}

    def ask(_):
        return httpx.post(server.url + "/v1/completions", json=body, timeout=120).text

    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(ask, range(32)))
    assert all(text.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in text for text in texts)
    assert server.metric("baize_generated_tokens_total") == 32 * 200 and running(server) == 0


def test_idle_server_uses_no_processor(start):
    server = start()
    assert server.post("/v1/completions", slow_request(5)).status_code == 200

    def ticks():
        with open(f"/proc/{server.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(0.5)
    before = ticks()
    time.sleep(3)
    assert ticks() - before <= 1


def test_wrong_models(baize, tmp_path):
    assert "nowhere" in baize.error(3, "serve", "nowhere")
    assert "model" in baize.error(2, "serve")


def test_queue_that_is_full(start):
    server = start("--parallel", 1, "--queue", 1)
    first = Streaming(server)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: server.post("/v1/completions", slow_request(1)))
        wait_until(lambda: server.metric("baize_requests_waiting") == 1)
        refused = server.post("/v1/completions", slow_request(1))
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error" and "wait" in refused.json()["error"]["message"]
        assert server.metric("baize_errors_total", code="rate_limit_exceeded") == 1
        server.terminate()
        assert second.result().status_code == 200  # both still finish
    first.join()
    assert server.wait() == 0
