"""HTTP itself, over raw sockets: keep-alive, pipelining, limits, slow and broken clients, TLS."""

import json
import socket
import ssl
import subprocess

import pytest
from running_server import wait_until

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def post(path, body, *headers, version=b"1.1"):
    """A request as bytes."""
    data = json.dumps(body).encode()
    lines = [b"POST %s HTTP/%s" % (path.encode(), version), b"Host: x", b"Content-Length: %d" % len(data), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + data


def read_answer(connection):
    """Status, headers and body of one answer with a length; what follows stays in the socket."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(1)
        assert piece, f"closed after {data}"
        data += piece
    status, *lines = data.decode().split("\r\n")[:-2]
    headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
    body = b""
    while len(body) < int(headers.get("content-length", 0)):
        piece = connection.recv(int(headers["content-length"]) - len(body))
        assert piece, f"closed after {data + body}"
        body += piece
    return int(status.split()[1]), headers, body


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def test_keep_alive(server):
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(GET)
            status, headers, body = read_answer(connection)
            assert status == 200 and "connection" not in headers and json.loads(body) == {"status": "ok"}


def test_close_when_asked(server):
    assert server.talk(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).count(b"HTTP/1.1 200") == 1
    answer = server.talk(b"GET /health HTTP/1.0\r\n\r\n")
    assert status_of(answer) == 200 and b"Connection: close" in answer


def test_pipelining(server):
    ask = post("/v1/completions", {"prompt": "a", "max_tokens": 3, "ignore_eos": True})
    with server.connect() as connection:
        connection.sendall(GET + ask + GET + ask + GET)
        answers = [read_answer(connection) for _ in range(5)]
    assert [a[0] for a in answers] == [200] * 5
    assert ["choices" in json.loads(a[2]) for a in answers] == [False, True, False, True, False]


def test_many_pipelined_requests(server):
    ask = post("/v1/completions", {"prompt": "a" * 50, "max_tokens": 1})
    with server.connect() as connection:
        connection.sendall(ask * 1000)  # more than the server reads ahead
        assert {read_answer(connection)[0] for _ in range(1000)} == {200}


def test_byte_by_byte(server):
    with server.connect() as connection:
        for byte in post("/tokenize", {"prompt": "abc"}):
            connection.sendall(bytes([byte]))
        status, _, body = read_answer(connection)
    assert status == 200 and json.loads(body)["count"] == 3


def test_request_in_two_pieces(server):
    data = post("/tokenize", {"prompt": "abc"})
    cuts = range(1, len(data))
    held = [server.connect() for _ in cuts]
    for connection, cut in zip(held, cuts):
        connection.sendall(data[:cut])
    for _ in range(20):  # meanwhile the server has seen the first pieces, each alone
        assert server.get("/health").status_code == 200
    for connection, cut in zip(held, cuts):
        connection.sendall(data[cut:])
        status, _, body = read_answer(connection)
        assert status == 200 and json.loads(body)["count"] == 3, f"cut at {cut}: {data[:cut]}"
        connection.close()


def test_chunked_request_and_continue(server):
    data = json.dumps({"prompt": "hello"}).encode()
    head = b"POST /tokenize HTTP/1.1\r\nHost: x\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(data[i : i + 5]), data[i : i + 5]) for i in range(0, len(data), 5))
    with server.connect() as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert json.loads(read_answer(connection)[2])["count"] == 5
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(data))
        assert read_answer(connection)[0] == 100
        connection.sendall(data)
        assert json.loads(read_answer(connection)[2])["count"] == 5


def test_head_and_absolute_target(server):
    answer = server.talk(b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status_of(answer) == 200 and b"Content-Length: 15" in answer and answer.endswith(b"\r\n\r\n")
    assert status_of(server.talk(b"GET http://x/health?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 200


@pytest.mark.parametrize("status, request_bytes", [
    (400, b"nonsense\r\n\r\n"),
    (400, b"GET /health\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100),  # TLS to a plain port
    (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    (400, b"GET /health HTTP/1.1\r\n\r\n"),
    (400, b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, b"GET /health HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n"),
    (400, b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"),
    (400, b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
    (400, b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    (417, b"POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 5\r\n\r\n"),
    (431, b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10000 + b"\r\n"),
    (431, b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n"),
    (431, b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 100000 + b"\r\n\r\n"),
    (431, b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    (413, b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n"),
    (413, b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n"),
])
def test_requests_that_break_http(server, status, request_bytes):
    answer = server.talk(request_bytes)
    assert status_of(answer) == status
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert error["message"] and b"Connection: close" in answer
    assert server.get("/health").status_code == 200


def test_body_of_100_megabytes(server):
    answer = server.post("/v1/completions", content=b'{"prompt": "' + b"a" * 100_000_000 + b'"}')
    assert answer.status_code == 413 and "16777216" in answer.json()["error"]["message"]


def test_large_prompt_does_not_stop_others(server):
    answer = server.post("/v1/completions", {"prompt": "a" * 1_000_000, "max_tokens": 1})
    assert answer.status_code == 400 and "1000000 tokens" in answer.json()["error"]["message"]


def test_clients_that_leave_early(server):
    for data in (b"", b"GET", GET[:-2], post("/tokenize", {"prompt": "x"})[:-3]):
        assert server.talk(data, half_close=True) == b""
        server.connect().close()
    assert server.get("/health").status_code == 200


def test_slow_requests_end(start):
    slow = start("--read-timeout", 0.5)
    assert status_of(slow.talk(b"GET /health HTTP/1.1\r\n")) == 408
    assert status_of(slow.talk(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")) == 408
    assert start("--idle-timeout", 0.5).talk(b"") == b""  # idle: closed without a word


def test_dropped_connection_cancels(server):
    before = server.metric("baize_engine_drawn_tokens_total")
    with server.held():
        assert server.metric("baize_requests_running") == 1
    wait_until(lambda: server.metric("baize_requests_running") == 0)
    assert server.metric("baize_engine_drawn_tokens_total") - before < 16000
    # Also one that is not streamed, and one that was closed in a hurry.
    connection = server.connect()
    before = server.metric("baize_engine_drawn_tokens_total")
    connection.sendall(post("/v1/completions", {"prompt": "a", "max_tokens": 16000, "ignore_eos": True, "n": 16}))
    wait_until(lambda: server.metric("baize_requests_running") >= 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
    wait_until(lambda: server.metric("baize_requests_running") + server.metric("baize_requests_waiting") == 0)
    assert server.metric("baize_engine_drawn_tokens_total") - before < 16 * 16000


def test_stream_over_http_1_0(server):
    body = {"prompt": "a", "max_tokens": 3, "stream": True, "ignore_eos": True}
    answer = server.talk(post("/v1/completions", body, version=b"1.0"))
    assert b"chunked" not in answer and answer.endswith(b"data: [DONE]\n\n")


def test_client_that_does_not_read_is_dropped(start):
    strict = start("--write-timeout", 0.5)
    with strict.held(n=8):
        wait_until(lambda: strict.metric("baize_requests_running") + strict.metric("baize_requests_waiting") == 0)
        assert 0 < strict.metric("baize_engine_drawn_tokens_total") < 8 * 16000
    assert strict.get("/health").status_code == 200


def test_connections_are_limited(start):
    few = start("--max-connections", 2)
    held = [few.connect(), few.connect()]
    for connection in held:
        connection.sendall(GET)
        assert read_answer(connection)[0] == 200
    answer = few.talk(b"")
    assert status_of(answer) == 503 and b"too many connections" in answer
    held[0].close()
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    wait_until(lambda: few.talk(last).startswith(b"HTTP/1.1 200"))
    held[1].close()


def test_tls(start, tmp_path, baize, model):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    safe = start("--tls-cert", cert, "--tls-key", key)
    assert safe.scheme == "https"
    context = ssl.create_default_context(cafile=str(cert))
    assert safe.get("/health", verify=context).json() == {"status": "ok"}
    body = {"prompt": "a", "max_tokens": 200, "stream": True, "ignore_eos": True}
    answer = safe.post("/v1/completions", body, verify=context)
    assert answer.text.count("data: ") >= 3 and answer.text.endswith("data: [DONE]\n\n")
    assert safe.talk(GET)[:4] != b"HTTP"  # plain HTTP to a TLS port
    with pytest.raises(ssl.SSLError), safe.connect() as plain:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_1
        old.wrap_socket(plain)
    assert "--tls-key" in baize.error(2, "serve", model, "--tls-cert", cert)
    assert "nothing.pem" in baize.error(3, "serve", model, "--tls-cert", cert, "--tls-key", "nothing.pem")
    assert "cert.pem" in baize.error(4, "serve", model, "--tls-cert", cert, "--tls-key", cert)
