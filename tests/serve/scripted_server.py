"""A server of OpenAI's completion interface whose every answer a test writes down, byte by byte if it likes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def event(data):
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def text_event(text):
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def usage_event(prompt, completion):
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
DONE = event(b"[DONE]")


class Call:
    """One request, as its script sees it."""

    def __init__(self, handler, body):
        self.handler, self.body, self.headers = handler, body, handler.headers
        self.prompt = body["messages"][0]["content"] if "messages" in body else body.get("prompt")

    def raw(self, data):
        self.handler.wfile.write(data)
        self.handler.wfile.flush()

    def head(self, *headers, status="200 OK"):
        self.raw("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode())

    def whole(self, status, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head("Content-Type: application/json", f"Content-Length: {len(data)}", status=f"{status} Scripted")
        self.raw(data)

    def begin(self):
        self.head("Content-Type: text/event-stream", "Transfer-Encoding: chunked")

    def chunk(self, data):
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self):
        self.raw(b"0\r\n\r\n")

    def stream(self, *events):
        self.begin()
        for each in events:
            self.chunk(each)
        self.end()

    def answer(self):
        """What a good server says: as many tokens as were asked for, one word a token."""
        n = self.body["max_tokens"]
        self.stream(*[text_event("x")] * n, FINISH, usage_event(len(self.prompt.split()) + 3, n), DONE)

    def close(self):
        """Ends the connection without a word."""
        self.handler.close_connection = True


class ScriptedServer:
    """`script(call, index)` answers request number `index`; requests for one token come before the test and are answered
    as a good server would, unless `probes` says how. `calls` are all requests for more."""

    def __init__(self, script, probes=Call.answer):
        self.calls, lock = [], threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                Call(self, {}).whole(200, {"object": "list", "data": [{"id": "scripted"}, {"id": "other"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                call = Call(self, body)
                call.path = self.path
                if body["max_tokens"] == 1:
                    return probes(call)
                with lock:
                    index = len(outer.calls)
                    outer.calls.append(call)
                try:
                    script(call, index)
                except (BrokenPipeError, ConnectionResetError):  # the client left
                    self.close_connection = True

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
