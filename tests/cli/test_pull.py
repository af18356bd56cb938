"""`baize pull` of addresses, against a local server that breaks off, resumes and lies."""

from pathlib import Path

import pytest
from hub_server import Hub, make_certificate, sha256
from store_machine import INVALID, NETWORK, gguf

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
