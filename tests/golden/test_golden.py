"""The program's logits and greedy continuations against the golden cases, on every backend, whole and in pieces."""

import json

import numpy
import pytest

# One case a mechanism that only the whole program shows; tests/unit/model_golden_test.cc runs them all.
CASES = """llama llama+bias_headdim llama+rope_dynamic llama+rope_linear llama+rope_llama3 mistral qwen2 qwen2+window
    qwen2+yarn qwen3 gemma gemma2 gemma2+caps gemma3_text gemma3_text+linear phi3 phi3+longrope phi3+partial bloom
    gpt2 opt+postln falcon+new gpt_oss mixtral deepseek_v3 llama4_text mamba mamba2 falcon_h1 qwen3_next kimi_linear
    lfm2 recurrent_gemma rwkv""".split()
PIECES = {"whole": None, "singles": [70] + [1] * 26, "uneven": [7, 1, 30, 2, 50, 6]}
MAX_NMSE = {"f32": 1e-6, "auto": 1e-3}
ON_THE_WHOLE_ONLY = ["llama+rope_dynamic"]  # its angles follow the length seen


def joined(ids):
    return ",".join(map(str, ids))


def nmse(got, want):
    got, want = numpy.array(got, dtype=numpy.float64), numpy.array(want, dtype=numpy.float64)
    assert got.shape == want.shape
    return ((got - want) ** 2).sum() / (want**2).sum()


@pytest.fixture(params=["ref", "cpu"])
def backend(request):
    return request.param


@pytest.fixture(params=["f32", "auto"])
def compute(request):
    return request.param


@pytest.fixture(params=CASES)
def case(request, goldens):
    folder = goldens / request.param
    return folder, json.loads((folder / "golden.json").read_text())


@pytest.fixture
def logits(baize, case, backend, compute):
    def run(ids, *args):
        out = baize.json("logits", case[0], "--ids", joined(ids), "--backend", backend, "--compute", compute, *args)
        assert out.keys() == {"vocab", "logits"}
        assert out["vocab"] == case[1]["vocab"]
        assert {len(row) for row in out["logits"]} == {out["vocab"]}
        return out["logits"]

    return run


def test_logits(case, logits, compute):
    golden = case[1]
    assert nmse(logits(golden["input_ids"]), golden["logits"]) <= MAX_NMSE[compute]


@pytest.mark.parametrize("pieces", PIECES)
def test_long_logits(case, logits, compute, pieces):
    folder, golden = case
    chunks = [] if PIECES[pieces] is None else ["--chunks", joined(PIECES[pieces])]
    error = nmse(logits(golden["long_ids"], *chunks)[-8:], golden["long_logits"])
    if folder.name in ON_THE_WHOLE_ONLY and chunks:
        assert error > MAX_NMSE[compute]  # were it equal, the angles would not follow the length
    else:
        assert error <= MAX_NMSE[compute]


def test_generated(baize, case, backend):
    folder, golden = case
    options = ["--max-tokens", len(golden["generated"]), "--temperature", 0, "--backend", backend, "--compute", "f32"]
    out = baize.json("generate", folder, "--ids", joined(golden["input_ids"]), *options)
    assert out.keys() == {"ids"}
    assert not golden["consistent"] or out["ids"] == golden["generated"]
