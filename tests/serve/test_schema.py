"""schemathesis against the OpenAPI document: requests that fit it and requests that do not, for every operation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Each server's context is small, so that even the longest answer to 128 prompts is soon there.
SMALL = ("--ctx", 64)


@pytest.fixture
def explore(tmp_path):
    """Runs schemathesis: the same cases every time, by its seed-free deterministic mode."""

    def run(server, *options, examples):
        (tmp_path / "schemathesis.toml").write_text("[output.sanitization]\nenabled = false\n")
        here = str(Path(__file__).parent)
        env = os.environ | {"SCHEMATHESIS_HOOKS": "schema_checks", "PYTHONPATH": here, "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json", "--generation-deterministic",
             "--phases", "coverage,fuzzing", "--max-examples", str(examples), "--no-shrink", "--continue-on-failure",
             "--exclude-checks", "positive_data_acceptance", "--suppress-health-check", "all", "--no-color",
             "--request-timeout", "300",
             *map(str, options)],
            cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=1200)
        assert done.returncode == 0, done.stdout[-20_000:]
        assert server.get("/health").json() == {"status": "ok"}
        tested = re.search(r"Tested: +(\d+)", done.stdout)
        cases = re.search(r"(\d+) generated", done.stdout)
        assert tested and cases, done.stdout[-20_000:]
        return int(tested[1]), int(cases[1])

    return run


def operations(server):
    """All but /openapi.json, which schemathesis reads and does not try."""
    return -1 + sum(len(methods) for methods in server.get("/openapi.json").json()["paths"].values())


def test_every_operation_is_as_documented(start, explore):
    server = start(*SMALL, "--alias", "tiny-chat")
    tested, cases = explore(server, examples=30)
    assert tested == operations(server) >= 11 and cases > 500
    assert server.metric("baize_errors_total", code="internal_error") == 0
    assert server.metric("baize_answers_total", reason="length") > 20  # many were answered, not only refused


def test_keys_are_as_documented(start, explore):
    server = start(*SMALL, "--api-key", "right")
    assert "401" in server.get("/openapi.json").json()["paths"]["/tokenize"]["post"]["responses"]
    some = "tokenize|models|health"  # with and without a body, a parameter, a key
    tested, cases = explore(server, "-H", "Authorization: Bearer right", "--include-path-regex", some, examples=3)
    assert tested == 5 and cases > 50
