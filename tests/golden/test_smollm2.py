"""The default model's greedy continuations, from its GGUF file, against those of transformers (make_smollm2.py)."""

import json
from pathlib import Path

import pytest

REFERENCE = json.loads((Path(__file__).parent / "smollm2_greedy.json").read_text())


@pytest.mark.parametrize("backend", ["cpu", "ref"])
@pytest.mark.parametrize("case", REFERENCE["cases"], ids=[str(i) for i in range(len(REFERENCE["cases"]))])
def test_greedy_ids(stocked, case, backend):
    ids = ",".join(map(str, case["ids"]))
    options = ["--max-tokens", len(case["greedy"]), "--temperature", 0, "--compute", "f32", "--backend", backend]
    assert stocked.json("generate", "smollm2:135m", "--ids", ids, *options, timeout=900)["ids"] == case["greedy"]
