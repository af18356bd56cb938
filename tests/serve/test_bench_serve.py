"""`baize bench serve` against Baize itself and against servers that misbehave."""

import json
import os
import re
import signal
import subprocess
import threading

import pytest
from scripted_server import DONE, FINISH, Call, ScriptedServer, event, text_event, usage_event

NETWORK = 8
SMALL = ["--input-tokens", 40, "--output-tokens", 6]


@pytest.fixture
def scripted():
    running = []

    def start(script=lambda call, _: call.answer(), **options):
        running.append(ScriptedServer(script, **options))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def bench(baize):
    """The report as JSON of a test that must succeed."""
    return lambda server, *args, **options: json.loads(
        baize.ok("bench", "serve", "--url", server.url, "--json", "-", *args, **options))


# Against Baize.

@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_baize(server, bench, only_text, endpoint, how):
    biased = json.dumps({"logit_bias": only_text})
    report = bench(server, "--endpoint", endpoint, how, "--requests", 9, "--concurrency", 3, "--input-tokens", 400,
                   "--output-tokens", 7, "--warmup", 2, "--body", biased)
    assert report["model"] == "tiny-chat"
    assert (report["requests_ok"], report["requests_failed"]) == (9, 0)
    assert report["output_tokens"] == 9 * 7 and report["answers_shorter_than_asked"] == 0
    assert 9 * 340 < report["input_tokens"] < 9 * 460  # its tokens are characters, of words that differ in length
    assert report["peak_concurrent"] == 3
    assert len(report["requests"]) == 9
    for one in report["requests"]:
        assert one["output_tokens"] == 7 and 0 < one["e2e_ms"]
    assert report["e2e_ms"]["p50"] <= report["e2e_ms"]["p99"] <= report["e2e_ms"]["max"]
    if how == "--stream":
        assert 0 < report["ttft_ms"]["p50"] <= report["e2e_ms"]["p50"]
        assert report["itl_ms"] is not None and report["tpot_ms"] is not None
    else:
        assert report["ttft_ms"] is None and report["itl_ms"] is None


def test_table_and_page(server, baize, tmp_path):
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    table = baize.ok("bench", "serve", "--url", server.url + "/v1/", "--requests", 5, "--rate", 1000, *SMALL, "--html",
                     page, "--json", numbers, "--slo-ttft", 600_000, "--slo-itl", 600_000)
    assert "5 ok, 0 failed" in table and "open loop" in table
    assert re.search(r"goodput .* 100\.0 %", table) and re.search(r"^TTFT .*\d", table, re.M)
    html = page.read_text()
    assert html.count("<svg") == 4 and "<script" not in html and "src=" not in html and "tiny-chat" in html
    assert json.loads(numbers.read_text())["goodput"]["requests"] == 5


def test_lengths_as_in_sharegpt(server, bench):
    report = bench(server, "--lengths", "sharegpt", "--requests", 6, "--seed", 4, "--endpoint", "completions")
    assert len({one["output_tokens"] for one in report["requests"]}) > 3
    assert report["requests_ok"] == 6 and report["answers_shorter_than_asked"] == 0


def test_an_api_key(start, bench, baize):
    locked = start("--api-key", "sesame")
    assert "--api-key" in baize.error(NETWORK, "bench", "serve", "--url", locked.url, OPENAI_API_KEY="x")
    assert bench(locked, "--api-key", "sesame", "--requests", 1, *SMALL)["requests_ok"] == 1
    assert bench(locked, "--requests", 1, *SMALL, OPENAI_API_KEY="sesame")["requests_ok"] == 1
    shown = baize.run("bench", "serve", "--help", OPENAI_API_KEY="sesame")
    assert "sesame" not in shown.stdout


def test_tls(start, bench, baize, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    safe = start("--tls-cert", cert, "--tls-key", key)
    assert bench(safe, "--requests", 3, *SMALL, SSL_CERT_FILE=str(cert))["requests_ok"] == 3
    assert "certificate" in baize.error(NETWORK, "bench", "serve", "--url", safe.url)
    assert "TLS" in baize.error(NETWORK, "bench", "serve", "--url", safe.url.replace("127.0.0.1", "localhost"),
                                SSL_CERT_FILE=str(cert))


def test_nothing_fits(server, baize):
    done = baize.run("bench", "serve", "--url", server.url, "--requests", 2, "--input-tokens", 100_000)
    assert done.returncode == NETWORK
    assert "2 x HTTP 400" in done.stdout and "context" in done.stdout
    assert done.stderr.startswith("baize: no request succeeded") and done.stderr.count("\n") == 1


# What is sent.

def test_what_is_sent(scripted, bench):
    server = scripted()
    args = ["--requests", 4, *SMALL, "--shared-prefix", 20, "--api-key", "k", "--body", '{"top_k": 3}']
    report = bench(server, *args)
    assert report["model"] == "scripted" and report["input_tokens"] == 4 * 40
    prompts = [call.prompt for call in server.calls]
    for call in server.calls:
        body = call.body
        assert call.path == "/v1/chat/completions" and call.headers["Authorization"] == "Bearer k"
        assert (body["model"], body["max_tokens"], body["top_k"], body["ignore_eos"]) == ("scripted", 6, 3, True)
        assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
        assert len(call.prompt.split()) == 37  # this server counts three more
    assert len({tuple(p.split()[:17]) for p in prompts}) == 1 and len(set(prompts)) == 4

    bench(server, *args)
    assert not set(prompts) & {call.prompt for call in server.calls[4:]}  # unknown to any cache
    bench(server, *args, "--seed", 1, "--no-ignore-eos", "--endpoint", "completions", "--model", "other")
    bench(server, *args, "--seed", 1)
    with_seed = [call.prompt for call in server.calls[8:]]
    assert sorted(with_seed[:4]) == sorted(with_seed[4:])
    call = server.calls[8]
    assert call.path == "/v1/completions" and call.body["model"] == "other" and "ignore_eos" not in call.body


def test_a_closed_loop_has_so_many_at_a_time(scripted, bench):
    gate, running, most = threading.Barrier(3), [], []

    def script(call, _):
        running.append(call)
        most.append(len(running))
        gate.wait(300)  # nobody goes on before three are here
        running.remove(call)
        call.answer()

    report = bench(scripted(script), "--requests", 9, "--concurrency", 3, *SMALL)
    assert report["requests_ok"] == 9 and max(most) == 3 and report["peak_concurrent"] == 3


def test_an_open_loop_does_not_wait(scripted, bench):
    gate = threading.Barrier(30)

    def script(call, _):
        gate.wait(300)
        call.answer()

    report = bench(scripted(script), "--requests", 30, "--rate", 500, *SMALL)
    assert report["requests_ok"] == 30 and report["peak_concurrent"] == 30


def test_an_open_loop_with_a_limit(scripted, bench):
    report = bench(scripted(), "--requests", 30, "--rate", 5000, "--concurrency", 2, *SMALL)
    assert report["requests_ok"] == 30 and report["peak_concurrent"] <= 2


# Servers that misbehave.

@pytest.mark.parametrize("size", [1, 2, 5, 17, 400])
def test_odd_splits(scripted, bench, size):
    said = (b": ping\n\n" + text_event("a\n\ndata: \"content\": ") + event({"choices": [{"delta": {"content": ""}}]}) +
            text_event("b").replace(b"\n", b"\r\n") + FINISH + usage_event(40, 6) + DONE)

    def script(call, _):
        call.begin()
        for at in range(0, len(said), size):
            call.chunk(said[at:at + size])
        call.end()

    report = bench(scripted(script), "--requests", 3, *SMALL)
    assert report["requests_ok"] == 3 and report["input_tokens"] == 120 and report["output_tokens"] == 18


@pytest.mark.parametrize("size", [1, 3, 50])
def test_pieces_that_split_the_chunks_themselves(scripted, bench, size):
    def script(call, _):
        pieces = []
        call.raw, sent = pieces.append, call.raw
        call.answer()
        said = b"".join(pieces)
        for at in range(0, len(said), size):
            sent(said[at:at + size])

    report = bench(scripted(script), "--requests", 2, *SMALL)
    assert report["requests_ok"] == 2 and report["output_tokens"] == 12


def test_an_answer_as_long_as_its_connection(scripted, bench):
    def script(call, _):
        call.head("Content-Type: text/event-stream", "Connection: close")
        call.raw(text_event("a") + FINISH + usage_event(40, 6) + DONE)
        call.close()

    assert bench(scripted(script), "--requests", 3, *SMALL)["requests_ok"] == 3


def test_connections_that_the_server_closes_between_answers(scripted, bench):
    def script(call, _):
        call.answer()
        call.close()

    assert bench(scripted(script), "--requests", 20, "--concurrency", 2, *SMALL)["requests_ok"] == 20


def test_some_fail(scripted, bench):
    def script(call, index):
        if index % 3:
            return call.answer()
        call.whole(429, {"error": {"message": f"full, says {index}"}})

    report = bench(scripted(script), "--requests", 9, "--concurrency", 1, *SMALL)
    assert (report["requests_ok"], report["requests_failed"]) == (6, 3)
    assert report["failures"] == {"HTTP 429": {"count": 3, "first": "full, says 0"}}
    assert [one["state"] for one in report["requests"]] == ["failed", "ok", "ok"] * 3


def break_off(call, _):
    call.begin()
    call.chunk(text_event("a"))
    call.close()


def half_a_body(call, _):
    call.head("Content-Length: 1000")
    call.raw(FINISH)
    call.close()


BROKEN = {
    "breaks off": (break_off, "broken stream", "in the middle"),
    "half a body": (half_a_body, "broken stream", "in the middle"),
    "no end": (lambda call, _: call.stream(text_event("a")), "broken stream", "finish reason"),
    "nothing": (lambda call, _: call.close(), "connection", "without an answer"),
    "no HTTP": (lambda call, _: (call.raw(b"hello\r\n\r\n"), call.close()), "bad answer", "not valid HTTP"),
    "no chunks": (lambda call, _: (call.begin(), call.raw(b"zz\r\n"), call.close()), "bad answer", "not valid HTTP"),
    "no JSON": (lambda call, _: call.stream(event(b"{\"choices\": ["), DONE), "bad answer", "no JSON"),
    "an error": (lambda call, _: call.stream(text_event("a"), event({"error": {"message": "it burns"}})),
                 "error in the stream", "it burns"),
    "a page": (lambda call, _: call.whole(502, b"<h1>Bad\ngateway</h1>"), "HTTP 502", "<h1>Bad gateway</h1>"),
    "another place": (lambda call, _: call.whole(307, {}), "HTTP 307", "{}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_kind_of_failure_is_told(scripted, baize, name):
    script, kind, words = BROKEN[name]
    done = baize.run("bench", "serve", "--url", scripted(script).url, "--requests", 4, *SMALL)
    assert done.returncode == NETWORK
    assert "0 ok, 4 failed" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith(f"  4 x {kind}: "))
    assert words in line
    assert done.stderr.count("\n") == 1 and words in done.stderr


def test_a_server_that_hangs(scripted, baize):
    over = threading.Event()
    server = scripted(lambda call, _: (call.begin(), call.chunk(text_event("a")), over.wait(300)))
    done = baize.run("bench", "serve", "--url", server.url, "--requests", 2, "--timeout", 5, *SMALL)
    over.set()
    assert done.returncode == NETWORK and "2 x timeout: no whole answer within 5 seconds" in done.stdout


def test_a_server_that_does_not_count(scripted, baize):
    def uncounted(call, _=0):
        call.stream(*[text_event("x")] * call.body["max_tokens"], FINISH, DONE)

    table = baize.ok("bench", "serve", "--url", scripted(uncounted, probes=uncounted).url, "--requests", 2, *SMALL)
    assert "2 ok, 0 failed" in table and "not told by the server" in table
    assert re.search(r"output tokens +12 events", table)


REFUSALS = {
    401: ({"error": {"message": "no key"}}, NETWORK, ["--api-key", "OPENAI_API_KEY", "no key"]),
    404: ({"error": {"message": "no model x"}}, 3, ["no model x"]),
    429: ({"message": "later"}, 9, ["429", "later"]),
    400: ({"detail": "extra field ignore_eos"}, 5, ["--no-ignore-eos"]),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_test_that_cannot_succeed_is_not_begun(scripted, baize, status):
    body, code, words = REFUSALS[status]
    server = scripted(probes=lambda call: call.whole(status, body))
    sentence = baize.error(code, "bench", "serve", "--url", server.url, "--model", "x")
    assert all(word in sentence for word in words) and not server.calls


def test_a_server_that_is_not_there(scripted, baize):
    server = scripted()
    server.close()
    assert "cannot connect" in baize.error(NETWORK, "bench", "serve", "--url", server.url)
    assert "cannot find" in baize.error(NETWORK, "bench", "serve", "--url", "http://nobody.invalid")


@pytest.mark.parametrize("words, args", [
    (["--url"], []),
    (["address"], ["--url", "ftp://x"]),
    (["--requests"], ["--url", "http://x", "--requests", 0]),
    (["--rate"], ["--url", "http://x", "--rate", -1]),
    (["--endpoint"], ["--url", "http://x", "--endpoint", "embeddings"]),
    (["--shared-prefix"], ["--url", "http://x", "--shared-prefix", 256]),
    (["API key"], ["--url", "http://127.0.0.1:1", "--api-key", "a\r\nb"]),
    (["--body"], ["--url", "http://127.0.0.1:1", "--body", "[1]"]),
])
def test_bad_options(baize, words, args):
    sentence = baize.error(2, "bench", "serve", *args)
    assert all(word in sentence for word in words)


def test_reports_that_cannot_be_written(scripted, baize, tmp_path):
    page = tmp_path / "no" / "page.html"
    sentence = baize.error(7, "bench", "serve", "--url", scripted().url, "--requests", 1, "--html", page)
    assert "cannot write" in sentence


def test_ctrl_c_prints_what_is_done(scripted, program, tmp_path):
    stuck, over = threading.Event(), threading.Event()

    def script(call, index):
        if index < 3:
            return call.answer()
        call.begin()
        call.chunk(text_event("a"))
        stuck.set()
        over.wait(300)

    server = scripted(script)
    args = [str(a) for a in ["bench", "serve", "--url", server.url, "--requests", 9, "--concurrency", 1, *SMALL]]
    env = os.environ | {"BAIZE_HOME": str(tmp_path)}
    process = subprocess.Popen([program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert stuck.wait(300)
    process.send_signal(signal.SIGINT)
    table, errors = process.communicate(timeout=300)
    over.set()
    assert process.returncode == 130, errors
    assert "3 ok, 0 failed, 6 not finished" in table and "E2E" in table


def test_ctrl_c_before_anything_is_measured(scripted, program, tmp_path):
    stuck, over = threading.Event(), threading.Event()
    server = scripted(probes=lambda call: (stuck.set(), over.wait(300), Call.close(call)))
    process = subprocess.Popen([program, "bench", "serve", "--url", server.url], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"BAIZE_HOME": str(tmp_path)})
    assert stuck.wait(300)
    process.send_signal(signal.SIGINT)
    table, errors = process.communicate(timeout=300)
    over.set()
    assert process.returncode == 130 and table == "" and errors.startswith("baize: stopped")
