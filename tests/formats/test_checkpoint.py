"""What Baize reads from GGUF and safetensors files equals what the formats' own packages wrote and read back."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGMLQuantizationType as T
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
TOOL = Path(os.environ.get("BAIZE", ROOT / "build" / "baize")).parent / "tests" / "checkpoint_tool"
sys.path.insert(0, str(ROOT / "tools"))

from ggufmake.from_hf import convert  # noqa: E402
from ggufmake.random_model import shape_with, write_random  # noqa: E402


def read(path, *keys):
    run = subprocess.run([TOOL, path, *keys], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def random_model(path, mix, split=0, **sizes):
    write_random(path, shape_with("tiny", **{"layers": 1, "vocab": 256, "ffn": 256} | sizes), mix, split=split)


def reader_tensors(path):
    return {
        t.name: {
            "format": {"F32": "f32", "F16": "f16", "BF16": "bf16"}.get(t.tensor_type.name, t.tensor_type.name),
            "shape": [int(d) for d in reversed(t.shape)],
            "crc32": crc32(t.data.tobytes()),
        }
        for t in GGUFReader(path).tensors
    }


@pytest.mark.parametrize("mix", ["F32", "F16", "BF16", "Q4_0", "Q4_K_M", "Q5_K_M", "Q8_0", "IQ4_XS", "MXFP4"])
def test_gguf_tensors(tmp_path, mix):
    path = tmp_path / "m.gguf"
    random_model(path, mix)
    assert read(path)["tensors"] == reader_tensors(path)


def test_gguf_values(tmp_path):
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    tokens = ["a", "ж", "你", "", "\n" * 300]
    scores = np.random.default_rng(1).standard_normal(5).astype(np.float32).tolist()
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types([1, 2, 3, 4, 6])
    writer.add_float32("x.f", 0.1)
    writer.add_uint64("x.u", 2**64 - 1)
    writer.add_array("x.list", [-1, 2, 3])
    writer.add_array("x.nested", [[1, 2], [3]])
    writer.add_bool("x.b", True)
    writer.add_custom_alignment(128)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    got = read(tmp_path / "m.gguf", *(f"tokenizer.ggml.{k}" for k in ("tokens", "scores", "token_type")))
    assert got["arrays"] == {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [1, 2, 3, 4, 6],
    }
    assert got["metadata"] == {
        "general.architecture": "llama",
        "general.alignment": 128,
        "x.f": float(np.float32(0.1)),
        "x.u": 2**64 - 1,
        "x.list": [-1, 2, 3],
        "x.nested": [[1, 2], [3]],
        "x.b": True,
    }


def test_split_set_equals_the_whole(tmp_path):
    random_model(tmp_path / "whole.gguf", "Q4_0")
    random_model(tmp_path / "part.gguf", "Q4_0", split=4)
    parts = sorted(tmp_path.glob("part-*.gguf"))
    assert len(parts) > 2
    whole = read(tmp_path / "whole.gguf")
    split = read(parts[0])
    assert split["tensors"] == whole["tensors"]
    added = {key: split["metadata"].pop(key) for key in list(split["metadata"]) if key.startswith("split.")}
    assert split["metadata"] == whole["metadata"]
    assert added == {"split.no": 0, "split.count": len(parts), "split.tensors.count": len(whole["tensors"])}


def test_safetensors(tmp_path):
    rng = np.random.default_rng(2)
    arrays = {
        "w": rng.standard_normal((3, 5)).astype(np.float32),
        "h": rng.standard_normal((2, 3, 4)).astype(np.float16),
        "scalar": np.array(3, np.float32),
        "ids": np.arange(7),
    }
    (tmp_path / "config.json").write_text('{"a": [1, {"b": null}]}')
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "np"})
    got = read(tmp_path)
    assert got["metadata"] == {"a": [1, {"b": None}]}
    assert got["tensors"] == {
        name: {
            "format": {"float32": "f32", "float16": "f16"}[str(array.dtype)],
            "shape": list(array.shape) or [1],
            "crc32": crc32(array.tobytes()),
        }
        for name, array in arrays.items()
        if name != "ids"
    }


def test_from_hf_keeps_every_value(tmp_path):
    """Weights survive the conversion: equal numbers, Llama's q and k rows paired, Gemma's norms plus 1."""
    rng = np.random.default_rng(3)
    config = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "vocab_size": 10,
        "rope_theta": 1e4, "tie_word_embeddings": True,
    }  # fmt: skip
    layer = "model.layers.0."
    arrays = {
        "model.embed_tokens.weight": rng.standard_normal((10, 32)).astype(np.float32),
        "lm_head.weight": np.zeros((10, 32), np.float32),
        f"{layer}input_layernorm.weight": rng.standard_normal(32).astype(np.float32),
        f"{layer}self_attn.q_proj.weight": np.arange(32 * 32, dtype=np.float32).reshape(32, 32),
        f"{layer}post_attention_layernorm.weight": rng.standard_normal(32).astype(np.float32),
    }
    folder = tmp_path / "hf"
    folder.mkdir()
    save_file(arrays, folder / "model.safetensors")

    def converted(architecture):
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
        convert(folder, tmp_path / "m.gguf", T.F32)
        return {t.name: t.data for t in GGUFReader(tmp_path / "m.gguf").tensors}

    llama = converted("LlamaForCausalLM")
    assert "output.weight" not in llama
    assert list(llama["blk.0.attn_q.weight"][:4, 0] / 32) == [0, 8, 1, 9]
    assert list(llama["blk.0.attn_q.weight"][16:19, 0] / 32) == [16, 24, 17]
    np.testing.assert_array_equal(llama["blk.0.attn_norm.weight"], arrays[f"{layer}input_layernorm.weight"])
    gemma = converted("Gemma2ForCausalLM")
    np.testing.assert_array_equal(gemma["blk.0.attn_q.weight"], arrays[f"{layer}self_attn.q_proj.weight"])
    np.testing.assert_array_equal(gemma["blk.0.attn_norm.weight"], arrays[f"{layer}input_layernorm.weight"] + 1)
    assert "blk.0.post_attention_norm.weight" in gemma and "blk.0.ffn_norm.weight" not in gemma


def test_fallback_types_divide_the_rows(tmp_path):
    random_model(tmp_path / "m.gguf", "Q4_K", hidden=96)
    types = {t.name: t.tensor_type for t in GGUFReader(tmp_path / "m.gguf").tensors}
    assert types["blk.0.attn_q.weight"] == T.Q5_0  # rows of 96
    assert types["blk.0.ffn_down.weight"] == T.Q4_K  # rows of 256


def test_make_gguf_command(tmp_path):
    command = [sys.executable, ROOT / "tools" / "make_gguf.py", "random", tmp_path / "m.gguf"]
    sizes = ["--shape", "tiny", "--mix", "Q4_K_M", "--layers", "1", "--vocab", "300", "--kv-heads", "1"]
    subprocess.run([*command, *sizes], check=True)
    got = read(tmp_path / "m.gguf")
    assert got["metadata"]["llama.attention.head_count_kv"] == 1
    assert got["tensors"]["token_embd.weight"]["shape"] == [300, 256]
    assert got["tensors"]["token_embd.weight"]["format"] == "Q6_K"
