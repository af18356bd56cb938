"""The chat page's own unit tests (ui/test), run by Node, and its type check."""

import subprocess

from browser_chat import ROOT


def npm(build_ui, script):
    done = subprocess.run(
        ["npm", "run", "--silent", script],
        cwd=ROOT / "ui",
        env=build_ui.environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    return done.stdout


def test_units(page_file, build_ui):
    out = npm(build_ui, "test")
    assert "# fail 0" in out and "# skipped 0" in out and int(out.split("# pass ")[1].split()[0]) >= 30


def test_types(page_file, build_ui):
    npm(build_ui, "check")


def test_one_file(page_file):
    page = page_file.read_text()
    assert len(page) < 1_000_000
    head = page[: page.index("<style")]
    assert "<link" not in head.replace('<link rel="icon" href="data:', "") and "src=" not in head
    assert "default-src 'none'" in head and "unsafe" not in head
