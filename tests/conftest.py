"""What Python tests share: the program under test, the golden cases and the default model."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL = "smollm2:135m"


class Baize:
    """Runs the program. Options of every call come first, so that tests read like command lines."""

    def __init__(self, program, env=None):
        self.program, self.env = str(program), os.environ | (env or {})

    def run(self, *args, stdin="", timeout=300, **env):
        return subprocess.run([self.program, *map(str, args)], input=stdin, capture_output=True, text=True,
                              timeout=timeout, env=self.env | env)

    def ok(self, *args, **kwargs):
        """Standard output of a call that must succeed."""
        done = self.run(*args, **kwargs)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *args, **kwargs):
        return json.loads(self.ok(*args, "--json", **kwargs))

    def error(self, code, *args, **kwargs):
        """The sentence of a call that must fail with this exit code: one line that begins with the program's name."""
        done = self.run(*args, **kwargs)
        assert done.returncode == code, f"exit code {done.returncode}, not {code}: {done.stderr}"
        assert done.stderr.startswith("baize: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr


FIGURES = pytest.StashKey[list]()  # lines that tests want printed at the end


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture
def figures(pytestconfig):
    return pytestconfig.stash.setdefault(FIGURES, [])


@pytest.fixture(scope="session")
def program():
    return Path(os.environ.get("BAIZE", ROOT / "build/baize"))


@pytest.fixture(scope="session")
def baize(program, tmp_path_factory):
    """The program with an empty store."""
    return Baize(program, {"BAIZE_HOME": str(tmp_path_factory.mktemp("store"))})


@pytest.fixture(scope="session")
def goldens(tmp_path_factory):
    """The folder of the golden cases: unpacked by tools/setup.sh, else here."""
    unpacked = ROOT / "tests/.data/hf"
    if unpacked.is_dir():
        return unpacked
    folder = tmp_path_factory.mktemp("goldens")
    with tarfile.open(ROOT / "tests/data/hf.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "hf"


@pytest.fixture(scope="session")
def stocked(program):
    """The program with a store that holds the default model, fetched once into tests/.data/store."""
    baize = Baize(program, {"BAIZE_HOME": str(ROOT / "tests/.data/store")})
    baize.ok("pull", DEFAULT_MODEL)
    return baize
