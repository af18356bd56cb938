"""baize convert: folders to GGUF files that say the same, as Baize and as the gguf package read them."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize
from gguf_model import interleave, read_safetensors

IDS = "3,17,5,99,42,7,23,64,11,80,2,54"
# What quantising a random model of width 256 and two layers costs: measured, with room.
COST = {"q2_k": 0.9, "q3_k": 0.32, "q4_k": 0.09, "q4_k_m": 0.08, "q5_k": 0.02, "q6_k": 0.005, "iq4_xs": 0.1, "q8_0": 5e-4}


def logits(baize, path):
    return np.array(baize.json("logits", path, "--ids", IDS, "--backend", "cpu", "--compute", "f32")["logits"])


def error(wanted, got):
    return ((wanted - got) ** 2).sum() / (wanted**2).sum()


def tiny_rows(wide, folder, rows):
    """The model of `wide` with another table of embeddings: one of `rows` rows."""
    config = json.loads((wide / "config.json").read_text()) | {"vocab_size": rows, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    raw = (wide / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    del header["lm_head.weight"]
    data = raw[8 + length :][: header["model.embed_tokens.weight"]["data_offsets"][0]]
    size = rows * 256 * 2
    header["model.embed_tokens.weight"] = {"dtype": "F16", "shape": [rows, 256], "data_offsets": [len(data), len(data) + size]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)
        file.truncate(8 + len(text) + len(data) + size)


def wide_llama(folder, rng):
    """A random llama of the width that blocks of 256 need."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 512,
              "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
              "vocab_size": 128, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "tie_word_embeddings": False}  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.norm.weight": (256,)}
    for i in range(2):
        layer = f"model.layers.{i}."
        for name, shape in {"self_attn.q_proj": (256, 256), "self_attn.k_proj": (256, 256), "self_attn.v_proj": (256, 256),
                            "self_attn.o_proj": (256, 256), "mlp.gate_proj": (512, 256), "mlp.up_proj": (512, 256),
                            "mlp.down_proj": (256, 512), "input_layernorm": (256,), "post_attention_layernorm": (256,)}.items():  # fmt: skip
            shapes[f"{layer}{name}.weight"] = shape
    shapes |= {"model.embed_tokens.weight": (128, 256), "lm_head.weight": (128, 256)}
    header, data = {}, b""
    for name, shape in shapes.items():
        spread = 0.06 if len(shape) > 1 else 0.1
        values = (rng.standard_normal(shape) * spread + (len(shape) == 1)).astype(np.float32)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return wide_llama(tmp_path_factory.mktemp("wide") / "model", np.random.default_rng(4))


@pytest.fixture(scope="module")
def wide_logits(baize, wide):
    return logits(baize, wide)


@pytest.mark.parametrize("case", ["llama", "gemma3_text", "qwen3_moe"])
def test_logits(baize, goldens, tmp_path, case):
    report = baize.ok("convert", goldens / case, tmp_path / "m.gguf", "--type", "f32")
    assert "m.gguf" in report and "F32" in report
    assert error(logits(baize, goldens / case), logits(baize, tmp_path / "m.gguf")) <= 1e-9


def test_gguf_reads_what_was_written(baize, goldens, tmp_path):
    baize.ok("convert", goldens / "llama", tmp_path / "m.gguf", "--type", "f16")
    config = json.loads((goldens / "llama/config.json").read_text())
    reader = GGUFReader(tmp_path / "m.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    wanted = {"general.architecture": "llama", "general.name": "llama", "general.file_type": 1,
              "general.quantization_version": 2, "llama.block_count": config["num_hidden_layers"],
              "llama.context_length": config["max_position_embeddings"], "llama.embedding_length": config["hidden_size"],
              "llama.feed_forward_length": config["intermediate_size"], "llama.vocab_size": config["vocab_size"],
              "llama.attention.head_count": config["num_attention_heads"],
              "llama.attention.head_count_kv": config["num_key_value_heads"],
              "llama.attention.key_length": config["head_dim"], "llama.attention.value_length": config["head_dim"],
              "llama.attention.layer_norm_rms_epsilon": np.float32(config["rms_norm_eps"]),
              "llama.rope.freq_base": config["rope_parameters"]["rope_theta"],
              "llama.rope.dimension_count": config["head_dim"]}  # fmt: skip
    assert {key: fields.get(key) for key in wanted} == wanted
    tensors = {t.name: t for t in reader.tensors}
    source = read_safetensors(goldens / "llama/model.safetensors")
    assert len(tensors) == len(source)
    for layer in range(config["num_hidden_layers"]):
        for kind in "qk":
            rows = source[f"model.layers.{layer}.self_attn.{kind}_proj.weight"]
            expected = interleave(rows, rows.shape[0] // config["head_dim"]).astype(np.float16)
            assert (tensors[f"blk.{layer}.attn_{kind}.weight"].data == expected).all()
        down = source[f"model.layers.{layer}.mlp.down_proj.weight"].astype(np.float16)
        assert (tensors[f"blk.{layer}.ffn_down.weight"].data == down).all()
        norm = tensors[f"blk.{layer}.attn_norm.weight"]
        assert norm.tensor_type == T.F32 and (norm.data == source[f"model.layers.{layer}.input_layernorm.weight"]).all()
    assert (tensors["output.weight"].data == source["lm_head.weight"].astype(np.float16)).all()


@pytest.mark.parametrize("quant", COST)
def test_quantised(baize, wide, wide_logits, tmp_path, quant):
    out = tmp_path / "m.gguf"
    baize.ok("convert", wide, out, "--type", quant)
    types = {t.name: t.tensor_type for t in GGUFReader(out).tensors}
    main = T[{"q4_k_m": "Q4_K"}.get(quant, quant).upper()]
    assert types["blk.0.attn_q.weight"] == main and types["blk.0.attn_norm.weight"] == T.F32
    assert types["output.weight"] == (T.Q8_0 if quant == "q8_0" else T.Q6_K)
    assert types["blk.1.ffn_down.weight"] == (T.Q6_K if quant == "q4_k_m" else main)
    assert COST[quant] / 5 < error(wide_logits, logits(baize, out)) <= COST[quant]


def test_q8_0_is_the_packages(baize, wide, tmp_path):
    """Q8_0 leaves no choice but the rounding of halves: all values agree within one step."""
    baize.ok("convert", wide, tmp_path / "m.gguf", "--type", "q8_0")
    tensor = next(t for t in GGUFReader(tmp_path / "m.gguf").tensors if t.name == "blk.0.ffn_down.weight")
    raw = (wide / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    begin, end = json.loads(raw[8 : 8 + length])["model.layers.0.mlp.down_proj.weight"]["data_offsets"]
    source = np.frombuffer(raw[8 + length + begin : 8 + length + end], np.float32).reshape(256, 512)
    theirs, ours = (dequantize(q, T.Q8_0) for q in (quantize(source, T.Q8_0), tensor.data))
    step = np.abs(source).reshape(256, 16, 32).max(axis=2, keepdims=True) / 127
    assert (np.abs(theirs - ours).reshape(256, 16, 32) <= 1.01 * step).all()
    assert error(source, ours) <= error(source, theirs) * 1.01


def test_rows_that_blocks_do_not_divide(baize, goldens, tmp_path):
    report = baize.ok("convert", goldens / "llama", tmp_path / "m.gguf", "--type", "q4_k")
    assert "stored as Q5_0: blocks of 256, as Q4_K has them" in report
    types = {t.tensor_type for t in GGUFReader(tmp_path / "m.gguf").tensors}
    assert types == {T.F32, T.F16, T.Q5_0, T.Q8_0}
    assert error(logits(baize, goldens / "llama"), logits(baize, tmp_path / "m.gguf")) <= 0.1


def fields_of(path):
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def test_tokenizer(baize, chat_model, tmp_path):
    """The folder's tokenizer, its special tokens and its chat template go along."""
    out = tmp_path / "m.gguf"
    baize.ok("convert", chat_model, out, "--type", "f32")
    fields = fields_of(out)
    vocab = json.loads((chat_model / "tokenizer.json").read_text())["model"]["vocab"]
    assert fields["tokenizer.ggml.tokens"] == sorted(vocab, key=vocab.get)
    assert fields["tokenizer.ggml.model"] == "gpt2" and fields["tokenizer.ggml.merges"] == ["t h"]
    assert (fields["tokenizer.ggml.bos_token_id"], fields["tokenizer.ggml.eos_token_id"]) == (1, 2)
    assert fields["tokenizer.chat_template"] == json.loads((chat_model / "tokenizer_config.json").read_text())["chat_template"]
    assert fields["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    question = ("Is this the same?", "--temperature", 0, "--max-tokens", 24, "--compute", "f32", "--ctx", 256)
    answers = {baize.ok("run", model, *question) for model in (chat_model, out)}
    assert len(answers) == 1 and answers.pop().strip()
    baize.ok("convert", chat_model, out, "--no-tokenizer", "--force")
    assert fields_of(out)["tokenizer.ggml.model"] == "no_vocab"
    assert "holds no tokenizer" in baize.error(3, "run", out, "hello")


def test_real_tokenizer(baize, wide, tmp_path):
    """A SentencePiece vocabulary: scores instead of merges, in the order of the merges."""
    source = Path(__file__).parents[1] / ".data/tokenizers/llama2"
    folder, out = tmp_path / "model", tmp_path / "m.gguf"
    folder.mkdir()
    tiny_rows(wide, folder, 32003)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / file, folder)
    baize.ok("convert", folder, out)
    fields = fields_of(out)
    vocab = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    tokens, scores = (fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores"))
    assert tokens == [*sorted(vocab, key=vocab.get), *(f"[PAD{id}]" for id in range(32000, 32003))]
    assert [fields["tokenizer.ggml.token_type"][id] for id in (0, 1, 3, 258, 259, 32000)] == [2, 3, 6, 6, 1, 5]
    merged = [scores[vocab[pair.replace(" ", "")]] for pair in json.loads((source / "tokenizer.json").read_text())["model"]["merges"]]
    assert merged == sorted(merged, reverse=True) and len(set(merged)) == 1 - min(merged)
    assert fields["tokenizer.ggml.model"] == "llama" and fields["tokenizer.ggml.add_space_prefix"] is True
    tiny_rows(wide, folder, 2000)
    assert "32000 tokens" in baize.error(5, "convert", folder, tmp_path / "n.gguf")


def test_bad_calls(baize, goldens, tmp_path):
    out = tmp_path / "m.gguf"
    assert "nowhere" in baize.error(3, "convert", tmp_path / "nowhere", out)
    (tmp_path / "file").write_text("x")
    assert "is no folder" in baize.error(2, "convert", tmp_path / "file", out)
    assert "q9" in baize.error(2, "convert", goldens / "llama", out, "--type", "q9")
    assert "cannot say" in baize.error(5, "convert", goldens / "llama+rope_dynamic", out)
    assert "rwkv4" in baize.error(5, "convert", goldens / "rwkv", out)
    assert "no/such" in baize.error(7, "convert", goldens / "llama", tmp_path / "no/such/m.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    out.write_text("mine")
    assert "--force" in baize.error(2, "convert", goldens / "llama", out)
    assert out.read_text() == "mine"
    baize.ok("convert", goldens / "llama", out, "--force")
    assert out.read_bytes()[:4] == b"GGUF"


def test_no_room(baize, goldens, tmp_path):
    command = [baize.program, "convert", goldens / "llama", tmp_path / "m.gguf"]
    done = subprocess.run(["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *map(str, command)], capture_output=True, text=True,
                          env=baize.env)  # fmt: skip
    assert done.returncode == 6 and "there is no room" in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_stopped(baize, wide, tmp_path):
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    tiny_rows(wide, folder, 2_000_000)
    command = [baize.program, "convert", str(folder), str(out / "m.gguf"), "--type", "q2_k", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=baize.env) as running:
        while running.poll() is None and not list(out.iterdir()):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 130 and "stopped" in said
    assert not list(out.iterdir())
