"""Bad input: one clear sentence, an exit code by its kind, no crash."""

import json
import shutil
import signal
import subprocess

import pytest
from gguf_model import write_gguf

ARGUMENT, NOT_FOUND, CORRUPT, UNSUPPORTED, RESOURCE = 2, 3, 4, 5, 6


@pytest.fixture
def llama(goldens):
    return goldens / "llama"


@pytest.fixture
def copy(llama, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    return folder


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def expect(baize, code, words, *args, **kwargs):
    sentence = baize.error(code, *args, **kwargs)
    for word in words:
        assert word in sentence


@pytest.mark.parametrize("code, words, args", [
    (ARGUMENT, ["rnu", "run"], ["rnu"]),
    (ARGUMENT, ["model"], ["run"]),
    (ARGUMENT, ["--ids"], ["generate", "MODEL"]),
    (ARGUMENT, ["--ids"], ["generate", "MODEL", "--ids", "1,x"]),
    (ARGUMENT, ["--bogus"], ["generate", "MODEL", "--ids", "1", "--bogus"]),
    (ARGUMENT, ["128", "0 to 127"], ["generate", "MODEL", "--ids", "1,128"]),
    (ARGUMENT, ["-1"], ["generate", "MODEL", "--ids=-1"]),
    (ARGUMENT, ["temperature", "0 to 100", "-1"], ["generate", "MODEL", "--ids", "1", "--temperature", "-1"]),
    (ARGUMENT, ["top_p", "0 to 1", "1.5"], ["generate", "MODEL", "--ids", "1", "--top-p", "1.5"]),
    (ARGUMENT, ["top_k", "whole number"], ["generate", "MODEL", "--ids", "1", "--top-k", "1.5"]),
    (ARGUMENT, ["min_p"], ["generate", "MODEL", "--ids", "1", "--min-p", "nan"]),
    (ARGUMENT, ["max_tokens"], ["generate", "MODEL", "--ids", "1", "--max-tokens", "0"]),
    (ARGUMENT, ["min_tokens", "0 to 4"], ["generate", "MODEL", "--ids", "1", "--max-tokens", "4", "--min-tokens", "5"]),
    (ARGUMENT, ["stop ids", "1000"], ["generate", "MODEL", "--ids", "1", "--stop-ids", "1000"]),
    (ARGUMENT, ["ID=BIAS"], ["generate", "MODEL", "--ids", "1", "--logit-bias", "5"]),
    (ARGUMENT, ["300"], ["generate", "MODEL", "--ids", "1", "--logit-bias", "300=1"]),
    (ARGUMENT, ["--backend", "auto|ref|cpu|cuda"], ["generate", "MODEL", "--ids", "1", "--backend", "gpu"]),
    (ARGUMENT, ["--ctx", "-5"], ["generate", "MODEL", "--ids", "1", "--ctx", "-5"]),
    (ARGUMENT, ["--threads"], ["generate", "MODEL", "--ids", "1", "--threads", "100000"]),
    (ARGUMENT, ["chunks", "3 token"], ["logits", "MODEL", "--ids", "1,2,3", "--chunks", "1,1"]),
    (ARGUMENT, ["chunks"], ["logits", "MODEL", "--ids", "1,2,3", "--chunks", "3,0"]),
    (ARGUMENT, ["MODEL"], ["bench"]),
    (ARGUMENT, ["fits"], ["bench", "MODEL", "--prefill", "100000", "--decode", "0"]),
    (ARGUMENT, ["think"], ["run", "MODEL", "x", "--think", "maybe"]),
    (ARGUMENT, ["max_tokens", "abc"], ["run", "MODEL", "x", "--max-tokens", "abc"]),
    (ARGUMENT, ["--var"], ["run", "MODEL", "x", "--var", "novalue"]),
    (NOT_FOUND, ["nowhere"], ["run", "nowhere", "x"]),
    (NOT_FOUND, ["tokenizer"], ["run", "MODEL", "x"]),
    (RESOURCE, ["300 tokens", "256"], ["generate", "MODEL", "--ids", ",".join(["1"] * 300)]),
    (RESOURCE, ["8 tokens", "holds 4"], ["generate", "MODEL", "--ids", ",".join(["1"] * 8), "--ctx", "4"]),
    (RESOURCE, ["300", "256"], ["logits", "MODEL", "--ids", ",".join(["1"] * 300)]),
])
def test_arguments(baize, llama, code, words, args):
    expect(baize, code, words, *[llama if arg == "MODEL" else arg for arg in args])


def test_prompt_longer_than_the_context(baize, make_chat_model):
    expect(baize, RESOURCE, ["1004 tokens", "holds 256"], "run", make_chat_model(), "x" * 999)


def test_empty_prompt(baize, chat_model):
    expect(baize, ARGUMENT, ["empty"], "run", chat_model)


def test_prompt_of_invalid_utf8(baize, chat_model):
    done = subprocess.run([baize.program, "run", chat_model, b"abc\xff"], capture_output=True, env=baize.env, input=b"")
    assert done.returncode == ARGUMENT and b"UTF-8: byte 4" in done.stderr and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("template, words", [
    ("{{ raise_exception('no such role') }}", ["no such role"]),
    ("{% for m in %}", ["template"]),
    ("{{ 1 / 0 }}", ["template"]),
])
def test_template_that_fails(baize, make_chat_model, template, words):
    done = baize.run("run", make_chat_model(template=template), "x")
    assert done.returncode in (ARGUMENT, CORRUPT) and done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_truncated_safetensors(baize, copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:length])
        expect(baize, CORRUPT, ["model.safetensors"], "generate", copy, "--ids", "1")


def test_truncated_and_mangled_gguf(baize, llama, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", llama)
    whole = path.read_bytes()
    assert baize.json("generate", path, "--ids", "1", "--max-tokens", 1)["ids"]
    for length in (3, 20, 200, 5000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        expect(baize, CORRUPT, ["model.gguf"], "generate", path, "--ids", "1")
    path.write_bytes(b"GGML" + whole[4:])
    expect(baize, CORRUPT, ["model.gguf"], "generate", path, "--ids", "1")
    path.write_bytes(whole[:4] + b"\x63" + whole[5:])
    expect(baize, UNSUPPORTED, ["99"], "generate", path, "--ids", "1")


def test_unknown_architecture(baize, llama, copy, tmp_path):
    change_config(copy, architectures=["LlamaForCausalML"])
    expect(baize, UNSUPPORTED, ["LlamaForCausalML", "LlamaForCausalLM"], "inspect", copy)
    path = write_gguf(tmp_path / "model.gguf", llama, architecture="lama")
    expect(baize, UNSUPPORTED, ["lama", "llama"], "inspect", path)


def test_config_that_contradicts_the_tensors(baize, copy):
    change_config(copy, hidden_size=64)
    expect(baize, CORRUPT, ["shape", "[128, 32]", "[128, 64]"], "generate", copy, "--ids", "1")
    change_config(copy, hidden_size=32, num_hidden_layers=4)
    expect(baize, CORRUPT, ["layers.3"], "generate", copy, "--ids", "1")


def test_config_that_is_broken(baize, copy):
    change_config(copy, num_attention_heads="four")
    expect(baize, CORRUPT, ["num_attention_heads"], "inspect", copy)
    (copy / "config.json").write_text('{"architectures": [')
    expect(baize, CORRUPT, ["config.json"], "inspect", copy)
    (copy / "config.json").unlink()
    expect(baize, NOT_FOUND, ["config.json"], "inspect", copy)


def test_missing_files(baize, copy):
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "model.safetensors").unlink()
    expect(baize, NOT_FOUND, ["model-00001-of-00002.safetensors"], "inspect", copy)


def test_bad_generation_config(baize, copy):
    (copy / "generation_config.json").write_text('{"eos_token_id": "two"}')
    expect(baize, CORRUPT, ["generation_config.json", "eos_token_id"], "generate", copy, "--ids", "1")
    (copy / "generation_config.json").write_text('{"temperature": "hot"}')
    expect(baize, CORRUPT, ["temperature", "number"], "generate", copy, "--ids", "1")


def test_weights_that_are_no_numbers(baize, copy):
    weights = copy / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-4096] + b"\xff\x7f" * 2048)
    expect(baize, CORRUPT, ["position 2", "not numbers"], "generate", copy, "--ids", "1,2")


def test_context_that_does_not_fit_into_memory(stocked):
    words = ["does not fit", "16777216 tokens", "free", "--ctx"]
    expect(stocked, RESOURCE, words, "generate", "smollm2:135m", "--ids", "1", "--ctx", 16777216, "--compute", "f32")


def test_closed_output_ends_quietly(baize, llama):
    process = subprocess.Popen([baize.program, "logits", llama, "--ids", ",".join(["1"] * 200), "--json"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=baize.env)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == -signal.SIGPIPE


def test_full_disk(baize, llama):
    with open("/dev/full", "w") as full:
        done = subprocess.run([baize.program, "logits", llama, "--ids", "1", "--json"], stdout=full, stderr=subprocess.PIPE,
                              env=baize.env, text=True)
    assert done.returncode == 7 and "standard output" in done.stderr
