"""The official OpenAI client for JavaScript against the program: openai_client.mjs holds the tests, as test_openai.py does."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import build_ui  # noqa: E402  it knows where Node.js is

SCRIPT = Path(__file__).with_name("openai_client.mjs")


def test_openai_client_in_javascript(server, start, only_text):
    client = ROOT / "tests/.data/openai_js"
    assert (client / "index.mjs").exists(), "tools/setup.sh test fetches the client"
    locked = start("--api-key", "right")
    env = build_ui.environment() | {"OPENAI_JS": str(client), "SERVER": server.url, "LOCKED": locked.url,
                                    "ONLY_TEXT": json.dumps(only_text)}
    done = subprocess.run(["node", "--test-reporter=tap", SCRIPT], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-20_000:]
    counts = dict(re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE))
    written = len(re.findall(r"^test\('", SCRIPT.read_text(), re.MULTILINE))
    assert int(counts["pass"]) == written > 0 and counts["skipped"] == counts["fail"] == "0", done.stdout[-20_000:]
