"""A local HTTP(S) server that plays the hubs, and every way in which a server can fail a download."""

import hashlib
import json
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@dataclass
class File:
    """One file and how it is served. `cuts` holds, for each of the first answers, after how many body bytes to hang up."""

    data: bytes
    etag: str = ""
    cuts: list = field(default_factory=list)
    ignores_range: bool = False  # answers 200 with everything
    wrong_range: int = 0  # shifts the range that it answers
    announce: int | None = None  # Content-Length other than the truth
    chunked: bool = False  # no Content-Length
    endless: bool = False  # a body without end (chunked)
    headers: dict = field(default_factory=dict)
    statuses: list = field(default_factory=list)  # for each of the first answers: an error status, or 200
    token: str = ""  # needed as "Authorization: Bearer"
    redirect: str = ""  # where it really is
    silent_after: int | None = None  # sends so many bytes, and the rest only when `goes_on` is set
    trickles: bool = False  # until then, a few bytes at a time
    goes_on: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        with hub.lock:
            hub.log.append((self.path, dict(self.headers)))
        file = hub.find(path, query)
        if file is None:
            return self.plain(404, b'{"error": "Repository not found"}')
        if file.token and self.headers.get("Authorization") != f"Bearer {file.token}":
            return self.plain(401, b'{"error": "Access is restricted"}')
        with hub.lock:
            status = file.statuses.pop(0) if file.statuses else 200
        if status != 200:
            return self.plain(status, b"busy", {"Retry-After": "0"})
        if file.redirect:
            return self.plain(302, b"elsewhere", {"Location": file.redirect})
        self.serve(file)

    def plain(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self, file):
        if file.etag and self.headers.get("If-None-Match") == file.etag:
            return self.plain(304, b"", {"ETag": file.etag})
        start = self.range_start(file)
        if start is not None and start >= len(file.data):
            return self.plain(416, b"", {"Content-Range": f"bytes */{len(file.data)}"})
        body = file.data if start is None else file.data[start:]
        self.send_response(200 if start is None else 206)
        if start is not None:
            first = start + file.wrong_range
            self.send_header("Content-Range", f"bytes {first}-{len(file.data) - 1}/{len(file.data)}")
        if file.etag:
            self.send_header("ETag", file.etag)
        for name, value in file.headers.items():
            self.send_header(name, value)
        if file.chunked or file.endless:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body) if file.announce is None else file.announce))
        self.end_headers()
        self.send_body(file, body)

    def range_start(self, file):
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not wanted or file.ignores_range or (condition and condition != file.etag):
            return None
        return int(wanted.removeprefix("bytes=").split("-")[0])

    def send_body(self, file, body):
        with self.server.hub.lock:
            cut = file.cuts.pop(0) if file.cuts else None
        if cut is not None:
            body, self.close_connection = body[:cut], True
        try:
            if file.endless:
                while True:
                    self.send_chunk(b"x" * 65536)
            if file.silent_after is not None:
                at = file.silent_after
                self.wfile.write(body[:at])
                while not file.goes_on.wait(0.02 if file.trickles else 300) and at < len(body) // 2:
                    self.wfile.write(body[at : at + 100])
                    at += 100
                self.wfile.write(body[at:])
            elif file.chunked:
                self.send_chunk(body)
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(body)
            if cut is not None:
                self.wfile.flush()
        except OSError:
            self.close_connection = True  # the client hung up, as some tests want

    def send_chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that hang up


class Hub:
    """Serves `files` by path, and repositories in the ways of the two hubs."""

    def __init__(self, certificate=None):
        self.files = {}
        self.listings = {}  # path -> JSON text, or None for a repository's own
        self.log = []
        self.lock = threading.Lock()
        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        for file in self.files.values():
            file.goes_on.set()
        self.server.shutdown()
        self.server.server_close()

    def add(self, path, data, **how):
        self.files[path] = file = File(data, **how)
        return file

    def find(self, path, query):
        if "FilePath" in query:
            path += "/" + query["FilePath"]
        return self.files.get(path)

    def add_repo(self, repo, files, revision="main", commit="c0ffee", lfs=(".gguf", ".safetensors"), **how):
        """A Hugging Face repository; returns its files by name. Change its listing through `listing`."""
        siblings = []
        served = {}
        for name, data in files.items():
            entry = {"rfilename": name, "size": len(data)}
            if name.endswith(lfs):
                entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
            served[name] = self.add(f"/{repo}/resolve/{commit}/{name}", data, etag=f'"{sha256(data)[:40]}"', **how)
        self.listing(repo, {"id": repo, "sha": commit, "siblings": siblings}, revision, **how)
        return served

    def listing(self, repo, content, revision="main", **how):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        token = {"token": how["token"]} if how.get("token") else {}
        self.add(f"/api/models/{repo}/revision/{revision}", text, **token)

    def add_ms_repo(self, repo, files, **how):
        """A ModelScope repository."""
        entries = [{"Type": "tree", "Path": "folder", "Size": 0}]
        for name, data in files.items():
            entries.append({"Type": "blob", "Name": name, "Path": name, "Size": len(data), "Sha256": sha256(data)})
            self.add(f"/api/v1/models/{repo}/repo/{name}", data, **how)
        self.add(f"/api/v1/models/{repo}/repo/files", json.dumps({"Code": 200, "Data": {"Files": entries}}).encode(), **how)

    def requests(self, part):
        """Headers of the requests whose address contains `part`, in order."""
        with self.lock:
            return [headers for path, headers in self.log if part in unquote(path)]


def make_certificate(folder):
    """A key and self-signed certificate for 127.0.0.1 in one file."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    return both
