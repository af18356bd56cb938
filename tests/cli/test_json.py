"""The commands for scripts: their JSON forms, and that each option does what it says."""

import json
import math

import numpy
import pytest
from gguf_model import write_gguf

PROMPT = "5,7,9,11"


@pytest.fixture
def llama(goldens):
    return goldens / "llama"


@pytest.fixture(scope="session")
def llama_gguf(goldens, tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "llama.gguf", goldens / "llama")


def generate(baize, model, *args):
    return baize.json("generate", model, "--ids", PROMPT, "--temperature", 0, *args)["ids"]


def test_logits_read_back_as_the_same_floats(baize, llama):
    text = baize.ok("logits", llama, "--ids", PROMPT, "--json")
    out = json.loads(text)
    assert list(out) == ["vocab", "logits"]
    assert [len(row) for row in out["logits"]] == [128] * 4
    for value in out["logits"][0][:16]:
        assert str(numpy.float32(value)) in text  # the shortest form that gives the float


def test_logits_table(baize, llama):
    lines = baize.ok("logits", llama, "--ids", PROMPT).splitlines()
    best = numpy.array(baize.json("logits", llama, "--ids", PROMPT)["logits"]).argmax(axis=1)
    assert [int(line.split("->")[1].split(":")[0]) for line in lines] == best.tolist()


def test_generate_forms(baize, llama):
    text = baize.ok("generate", llama, "--ids", PROMPT, "--max-tokens", 3, "--temperature", 0, "--json")
    ids = json.loads(text)["ids"]
    assert text == '{"ids": [' + ", ".join(map(str, ids)) + "]}\n" and len(ids) == 3
    plain = baize.ok("generate", llama, "--ids", PROMPT, "--max-tokens", 3, "--temperature", 0)
    assert plain == " ".join(map(str, ids)) + "\n"


def test_end_tokens_count_only_when_asked(baize, make_chat_model):
    model = make_chat_model()
    ids = generate(baize, model, "--max-tokens", 30)
    end = ids[10]
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    assert generate(baize, model, "--max-tokens", 30) == ids
    stopped = ids[: ids.index(end) + 1]
    assert generate(baize, model, "--max-tokens", 30, "--stop-eos") == stopped
    assert generate(baize, model, "--max-tokens", 30, "--stop-ids", f"{end},3") == stopped
    longer = generate(baize, model, "--max-tokens", 30, "--stop-eos", "--min-tokens", 20)
    assert len(longer) >= 20 and end not in longer[:20]


def test_sampling_options(baize, llama):
    def draw(*args):
        return baize.json("generate", llama, "--ids", PROMPT, "--max-tokens", 24, *args)["ids"]

    hot = ["--temperature", 3, "--top-k", 0, "--top-p", 1]
    assert draw(*hot, "--seed", 1) == draw(*hot, "--seed", 1) != draw(*hot, "--seed", 2)
    assert len({tuple(draw(*hot)) for _ in range(4)}) == 4
    greedy = generate(baize, llama, "--max-tokens", 24)
    for narrow in (["--top-k", 1], ["--top-p", 0], ["--min-p", 1]):
        assert draw(*hot, *narrow) == greedy
    assert set(draw(*hot, "--logit-bias", "77=1000")) == {77}
    never_twice = generate(baize, llama, "--max-tokens", 24, "--presence-penalty", 100)
    assert len(set(never_twice)) == 24
    assert generate(baize, llama, "--max-tokens", 24, "--repetition-penalty", 5) != greedy


def test_context_and_threads_do_not_change_results(baize, llama):
    ids = generate(baize, llama, "--max-tokens", 20)
    assert generate(baize, llama, "--max-tokens", 20, "--ctx", 64, "--threads", 1) == ids
    assert len(generate(baize, llama, "--max-tokens", 20, "--ctx", 10)) == 7  # 4 of the prompt, 6 more fit, one needs no place


def test_settings_come_from_the_environment_too(baize, llama):
    done = baize.run("generate", llama, "--ids", PROMPT, "--max-tokens", "20", "--json", BAIZE_CTX="10")
    assert len(json.loads(done.stdout)["ids"]) == 7
    done = baize.run("generate", llama, "--ids", PROMPT, "--max-tokens", "20", "--json", "--ctx", "12", BAIZE_CTX="10")
    assert len(json.loads(done.stdout)["ids"]) == 9


def test_gguf_file_computes_the_same(baize, llama, llama_gguf):
    golden = json.loads((llama / "golden.json").read_text())
    ids = ",".join(map(str, golden["input_ids"]))
    got, want = (numpy.array(baize.json("logits", m, "--ids", ids, "--compute", "f32")["logits"]) for m in (llama_gguf, llama))
    assert ((got - want) ** 2).sum() / (want**2).sum() < 1e-10


def test_gguf_file_has_the_same_text(baize, make_chat_model, llama_gguf):
    options = ["abc, def!", "--max-tokens", 60, "--temperature", 0]
    assert baize.ok("run", llama_gguf, *options) == baize.ok("run", make_chat_model(), *options)


def test_inspect(baize, llama, llama_gguf):
    out = baize.json("inspect", llama)
    assert out["format"] == "Hugging Face" and out["family"] == "llama"
    assert out["spec"]["dims"] == {"hidden": 32, "vocab": 128, "context": 256}
    golden = json.loads((llama / "golden.json").read_text())
    assert out["parameters"] == golden["params"]
    weights = {weight["name"]: weight for weight in out["weights"]}
    assert weights["layers.1.attn.q"]["shape"] == [64, 32]
    assert weights["layers.1.attn.q"]["format"] == "bf16"
    assert len(weights["layers.1.attn.q"]["kernels"]) == 3
    memory = out["memory"]
    assert memory["total"] == sum(memory[k] for k in ("weights", "cache", "temporary", "inputs", "logits"))
    assert out["cache"]["window_bytes"] == 0
    assert out["token"][0]["flops"] > 2 * (out["parameters"] - 128 * 32)  # all but the embedding lookup
    assert {t["name"] for t in out["tensors"]} >= {"lm_head.weight", "model.norm.weight"}
    assert baize.json("inspect", llama_gguf)["format"] == "GGUF"
    text = baize.ok("inspect", llama, "--tensors")
    assert "layers.*.attn.q" in text and "lm_head.weight" in text and "Memory for 256 tokens" in text


def test_bench(baize, llama):
    out = baize.json("bench", llama, "--prefill", "16,32", "--decode", 8, "--depth", "0,16", "--repeats", 2)
    assert [t["name"] for t in out["tests"]] == ["prefill 16", "prefill 32", "decode 8 after 0", "decode 8 after 16"]
    assert all(len(t["seconds"]) == 2 and t["tokens_per_second"] > 0 for t in out["tests"])
    assert {roof["name"]: roof["unit"] for roof in out["roofs"]} == {"read": "GB/s", "f32": "GFLOP/s", "int8": "GOP/s"}
    assert all(math.isfinite(roof["value"]) and roof["value"] > 0 for roof in out["roofs"])
    assert "decode 8 after 0" in baize.ok("bench", llama, "--prefill", 16, "--decode", 8, "--depth", 0, "--repeats", 1)


def test_help_and_version(baize):
    assert "run" in baize.ok() and "run" in baize.ok("help") == baize.ok("--help")
    assert "--temperature" in baize.ok("help", "generate")
    assert baize.ok("version") == baize.ok("--version")
