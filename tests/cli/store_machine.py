"""A user's machine with a store of models, and what `baize pull` finds elsewhere. The program is $BAIZE, or build/baize."""

import json
import os
import random
import subprocess
import zipfile
from pathlib import Path

BAIZE = os.environ.get("BAIZE", str(Path(__file__).resolve().parents[2] / "build" / "baize"))
NOT_FOUND, INVALID, CORRUPT, UNSUPPORTED, RESOURCE, NETWORK, CANCELLED = 3, 2, 4, 5, 6, 8, 130
TINY = {
    "config.json": b'{"a": 1}',
    "model-00001-of-00002.safetensors": random.Random(1).randbytes(40_000),
    "model-00002-of-00002.safetensors": random.Random(2).randbytes(50_000),
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "tokenizer.json": b'{"t": 1}',
}


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

    def start(self, *arguments, stderr=subprocess.PIPE, **kwargs):
        return subprocess.Popen([BAIZE, *map(str, arguments)], env=self.env, text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=stderr, **kwargs)

    def run(self, *arguments, **kwargs):
        process = self.start(*arguments, **kwargs)
        process.out, process.err = process.communicate(timeout=300)
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


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_wheel(folder, package, version, files):
    stem = f"{package.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
