"""The golden cases through GGUF: converted files give the same logits as the folders they come from."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as T

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from ggufmake.from_hf import convert  # noqa: E402

CASES = """llama llama+bias_headdim llama+rope_linear llama+rope_llama3 mistral qwen2 qwen2+window qwen2+yarn qwen3 gemma
    gemma2 gemma2+caps gemma3_text gemma3_text+linear phi3 phi3+longrope phi3+partial""".split()


def error(baize, golden, path, backend="cpu", compute="f32"):
    """NMSE of the last logits of the long prompt."""
    ids = ",".join(map(str, golden["long_ids"]))
    out = baize.json("logits", path, "--ids", ids, "--backend", backend, "--compute", compute)
    want = np.array(golden["long_logits"])
    got = np.array(out["logits"][-len(want) :])
    return ((got - want) ** 2).sum() / (want**2).sum()


@pytest.mark.parametrize("backend", ["ref", "cpu"])
@pytest.mark.parametrize("case", CASES)
def test_logits(baize, goldens, tmp_path, case, backend):
    golden = json.loads((goldens / case / "golden.json").read_text())
    convert(goldens / case, tmp_path / "m.gguf", T.BF16)  # as exact as the case itself
    assert error(baize, golden, tmp_path / "m.gguf", backend) <= 1e-6


# What quantising the weights costs on a random model of width 32; measured, with room.
@pytest.mark.parametrize("qtype,bound", [(T.F16, 1e-6), (T.Q8_0, 2e-3), (T.Q5_1, 1e-1), (T.Q4_0, 5e-1)])
@pytest.mark.parametrize("compute", ["f32", "auto"])
def test_block_types(baize, goldens, tmp_path, qtype, bound, compute):
    golden = json.loads((goldens / "qwen3" / "golden.json").read_text())
    convert(goldens / "qwen3", tmp_path / "m.gguf", qtype)
    assert error(baize, golden, tmp_path / "m.gguf", compute=compute) <= max(bound, 1e-3 * (compute == "auto"))


def test_split_set(baize, goldens, tmp_path):
    golden = json.loads((goldens / "llama" / "golden.json").read_text())
    convert(goldens / "llama", tmp_path / "m.gguf", T.BF16, split=7)
    parts = sorted(tmp_path.iterdir())
    assert len(parts) > 2
    assert error(baize, golden, parts[0]) <= 1e-6
    parts[1].unlink()
    assert parts[1].name in baize.error(3, "logits", parts[0], "--ids", "1", "--json")


def test_rope_that_gguf_cannot_say(goldens, tmp_path):
    with pytest.raises(SystemExit, match="dynamic"):
        convert(goldens / "llama+rope_dynamic", tmp_path / "m.gguf", T.BF16)
