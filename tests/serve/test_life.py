"""From start to end: settings, ports, signals, many at once, an idle server."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from running_server import PATIENCE, rest_of, wait_until


HOLD = ("--write-timeout", 600)  # for Server.held
STREAM_END = b"data: [DONE]\n\n\r\n0\r\n\r\n"


def request(tokens):
    return {"prompt": "a", "max_tokens": tokens, "stream": True, "ignore_eos": True}


def running(server):
    return server.metric("baize_requests_running")


def stopping(server):
    return server.get("/health").status_code == 503


def test_running_answers_are_finished(start):
    server = start("--grace", 600, *HOLD)
    with server.connect() as kept, server.held() as reader:
        server.terminate()
        wait_until(lambda: stopping(server))
        refused = server.post("/v1/completions", request(1))
        assert refused.status_code == 503 and "shutting down" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        assert server.process.poll() is None
        assert rest_of(reader).endswith(STREAM_END)
        assert server.wait() == 0
        assert kept.recv(100) == b""


def test_grace_time_ends(start):
    server = start("--grace", 0.2, *HOLD)
    with server.held() as reader:
        server.terminate()
        assert server.wait() == 0
        assert b"[DONE]" not in rest_of(reader)


def test_second_signal_ends_at_once(start):
    server = start("--grace", 600, *HOLD)
    with server.held() as reader:
        server.terminate()
        wait_until(lambda: stopping(server))
        server.terminate()
        assert server.wait() == 130
        assert b"[DONE]" not in rest_of(reader)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_at_once(start, number):
    server = start()
    client = httpx.Client()
    assert client.get(server.url + "/health").status_code == 200  # the connection stays
    server.process.send_signal(number)
    assert server.wait() == 0


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
    body = request(200) | {"temperature": 0}

    def ask(_):
        return httpx.post(server.url + "/v1/completions", json=body, timeout=PATIENCE).text

    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(ask, range(32)))
    assert all(text.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in text for text in texts)
    assert server.metric("baize_generated_tokens_total") == 32 * 200
    wait_until(lambda: running(server) == 0)


def test_idle_server_uses_no_processor(start):
    server = start()
    assert server.post("/v1/completions", request(5)).status_code == 200

    def ticks():
        with open(f"/proc/{server.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    end, before = time.monotonic() + 60, -1
    while before != ticks() and time.monotonic() < end:  # what the answer leaves behind is done
        before = ticks()
        time.sleep(0.5)
    before = ticks()
    time.sleep(3)
    assert ticks() - before <= 1


def test_wrong_models(baize, tmp_path):
    assert "nowhere" in baize.error(3, "serve", "nowhere")
    assert "model" in baize.error(2, "serve")


def test_queue_that_is_full(start):
    server = start("--parallel", 1, "--queue", 1, "--grace", 600, *HOLD)
    with server.held() as reader, ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: server.post("/v1/completions", request(1)))
        wait_until(lambda: server.metric("baize_requests_waiting") == 1)
        refused = server.post("/v1/completions", request(1))
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error" and "wait" in refused.json()["error"]["message"]
        assert server.metric("baize_errors_total", code="rate_limit_exceeded") == 1
        server.terminate()
        assert rest_of(reader).endswith(STREAM_END)  # both still finish
        assert second.result().status_code == 200
    assert server.wait() == 0
