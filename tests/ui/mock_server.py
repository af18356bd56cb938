"""A small OpenAI-like server whose answers a test scripts: chunks, gates, errors, a connection that breaks.

A test sets `server.script` to a function from the request's body to an Answer. Everything asked is kept in `requests`.
"""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Answer:
    chunks: list = field(
        default_factory=list
    )  # str: content; {"reasoning_content": str}: a delta; float: a pause in seconds; a gate: waits until it is open
    status: int = 200
    error: str = ""  # of a status other than 200, or in the stream after the chunks
    headers: dict = field(default_factory=dict)
    finish: str = "stop"
    broken: bool = False  # the connection ends after the chunks, without a finish
    usage: dict = field(
        default_factory=lambda: {
            "prompt_tokens": 12,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4},
        }
    )


Gate = threading.Event  # an answer goes on behind it once the test has seen what it wants, and says set()


def words(text):
    """The chunks of a text, about one a word, as a model would stream it."""
    return [w if i == 0 else " " + w for i, w in enumerate(text.split(" "))]


class MockServer:
    def __init__(self, page: Path):
        self.page, self.models, self.key, self.down = page, ["mock-model"], "", False
        self.requests, self.cancelled = [], threading.Event()
        self.script = lambda body: Answer(words("You said: " + body["messages"][-1]["content"]))
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/"

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def handler(mock):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, kind, body, headers=None):
                self.send_response(status)
                for name, value in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def json(self, status, body, headers=None):
                self.reply(status, "application/json", json.dumps(body).encode(), headers)

            def refused(self):
                if mock.down:
                    self.close_connection = True
                    self.connection.close()
                    return True
                if mock.key and self.headers.get("authorization") != f"Bearer {mock.key}":
                    self.json(401, {"error": {"message": "invalid API key", "type": "invalid_request_error"}})
                    return True
                return False

            def do_GET(self):
                if self.path == "/":
                    return self.reply(200, "text/html; charset=utf-8", mock.page.read_bytes())
                mock.requests.append((self.path, None))
                if self.path != "/v1/models":
                    return self.json(404, {"error": {"message": f"no {self.path} here"}})
                if not self.refused():
                    self.json(200, {"object": "list", "data": [{"id": m, "object": "model"} for m in mock.models]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                mock.requests.append((self.path, body))
                if self.refused():
                    return
                answer = mock.script(body)
                if answer.status != 200:
                    return self.json(
                        answer.status, {"error": {"message": answer.error, "type": "error"}}, answer.headers
                    )
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                self.close_connection = True
                try:
                    self.stream(answer)
                except (BrokenPipeError, ConnectionResetError):
                    mock.cancelled.set()

            def event(self, body):
                self.wfile.write(f"data: {body if isinstance(body, str) else json.dumps(body)}\n\n".encode())

            def stream(self, answer):
                for chunk in answer.chunks:
                    if isinstance(chunk, float):
                        time.sleep(chunk)
                    elif isinstance(chunk, Gate):
                        chunk.wait(300)
                    else:
                        delta = {"content": chunk} if isinstance(chunk, str) else chunk
                        self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
                if answer.error:
                    self.event({"error": {"message": answer.error, "type": "server_error"}})
                elif not answer.broken:
                    self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish}]})
                    self.event({"choices": [], "usage": answer.usage})
                    self.event("[DONE]")

        return Handler
