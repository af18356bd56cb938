"""Hugging Face folders (safetensors) to GGUF, for the families that Baize's GGUF tests cover.

Names, keys, the row order of Llama's q and k and the stored forms of norms and rope factors are those that llama.cpp's
converter writes, so that a file made here means the same as one made there. Three keys go beyond it because the
configuration would be lost otherwise: the window of Mistral (llama.attention.sliding_window), window patterns that are
not the architecture's own (attention.sliding_window_pattern) and Gemma's query scale (attention.scale). No vocabulary
is written.
"""

import json
import math
import re
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType as T
from gguf.quants import quantize

from ggufmake.blocks import fitting_type
from ggufmake.random_model import rope_freq_divisors

ARCHITECTURES = {
    "LlamaForCausalLM": "llama", "MistralForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3", "GemmaForCausalLM": "gemma", "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3", "Phi3ForCausalLM": "phi3",
}  # fmt: skip

OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
INNER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Every float tensor as f32 (bf16 widened: numpy has no such type)."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw[begin:end], np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw[begin:end], {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
        tensors[name] = values.astype(np.float32).reshape(entry["shape"])
    return tensors


def read_folder(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    config = json.loads((folder / "config.json").read_text())
    index = folder / "model.safetensors.index.json"
    shards = ["model.safetensors"]
    if index.exists():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    tensors = {}
    for shard in shards:
        tensors |= read_safetensors(folder / shard)
    return config, tensors


class Converter:
    """One conversion: the configuration under one spelling, and the writer."""

    def __init__(self, config: dict, writer: GGUFWriter, arch: str):
        self.config, self.writer, self.arch = config, writer, arch
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.rope = self._rope("full_attention")
        partial = self.rope.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
        self.rope_dims = int(self.head_dim * partial)

    def _rope(self, layer_type: str) -> dict:
        """Rope settings of a layer type from either form of the configuration."""
        new = self.config.get("rope_parameters")
        if new:
            return new.get(layer_type, new if "rope_theta" in new else {})
        if layer_type == "sliding_attention":
            return {"rope_theta": self.config.get("rope_local_base_freq", 10000.0)}
        scaling = dict(self.config.get("rope_scaling") or {})
        scaling.setdefault("rope_type", scaling.pop("type", "default"))
        return {"rope_theta": self.config.get("rope_theta", 10000.0)} | scaling

    # ---- metadata ------------------------------------------------------------------------------------------------

    def add_metadata(self) -> None:
        c, w = self.config, self.writer
        w.add_block_count(c["num_hidden_layers"])
        w.add_context_length(c["max_position_embeddings"])
        w.add_embedding_length(c["hidden_size"])
        w.add_feed_forward_length(c["intermediate_size"])
        w.add_head_count(self.heads)
        w.add_head_count_kv(self.kv_heads)
        w.add_key_length(self.head_dim)
        w.add_value_length(self.head_dim)
        w.add_layer_norm_rms_eps(c["rms_norm_eps"])
        w.add_vocab_size(c["vocab_size"])
        w.add_tokenizer_model("none")
        if self.arch in ("llama", "phi3"):
            w.add_rope_dimension_count(self.rope_dims)
        if c.get("attn_logit_softcapping"):
            w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        if c.get("final_logit_softcapping"):
            w.add_final_logit_softcapping(c["final_logit_softcapping"])
        query_scalar = c.get("query_pre_attn_scalar")
        if query_scalar and query_scalar != self.head_dim:
            w.add_attention_scale(query_scalar**-0.5)
        self._add_window()
        self._add_rope()

    def _add_window(self) -> None:
        c = self.config
        window = c.get("sliding_window")
        if not window or c.get("use_sliding_window") is False:
            return
        self.writer.add_sliding_window(window)
        types = c.get("layer_types")
        if not types:
            return
        slides = [t == "sliding_attention" for t in types]
        own_period = {"gemma2": 2, "gemma3": 6}.get(self.arch, 0)  # 0: every layer
        if slides == self._periodic(own_period):
            return
        for period in range(2, len(slides) + 1):  # a period, as llama.cpp reads for Gemma, when there is one
            if slides == self._periodic(period):
                return self.writer.add_uint32(f"{self.arch}.attention.sliding_window_pattern", period)
        self.writer.add_array(f"{self.arch}.attention.sliding_window_pattern", slides)

    def _periodic(self, period: int) -> list[bool]:
        return [period == 0 or i % period < period - 1 for i in range(self.config["num_hidden_layers"])]

    def _add_rope(self) -> None:
        w, rope, prefix = self.writer, self.rope, f"{self.arch}.rope"
        w.add_rope_freq_base(rope["rope_theta"])
        if self.arch == "gemma3":
            w.add_float32(f"{prefix}.freq_base_swa", self._rope("sliding_attention")["rope_theta"])
        kind = rope.get("rope_type", "default")
        if kind in ("linear", "yarn"):
            w.add_string(f"{prefix}.scaling.type", kind)
            w.add_rope_scaling_factor(rope["factor"])
        if kind == "yarn":
            w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
            for key in ("beta_fast", "beta_slow"):
                if key in rope:
                    w.add_float32(f"{prefix}.scaling.yarn_{key}", rope[key])
        elif kind == "longrope":
            original = rope.get("original_max_position_embeddings", self.config.get("original_max_position_embeddings"))
            scale = self.config["max_position_embeddings"] / original
            w.add_rope_scaling_orig_ctx_len(original)
            w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0)
        elif kind not in ("default", "linear", "llama3"):
            raise SystemExit(f"GGUF has no way to say rope type {kind!r}")

    # ---- tensors -------------------------------------------------------------------------------------------------

    def name(self, hf: str) -> str:
        stem, suffix = hf.rsplit(".", 1)
        if stem in OUTER:
            return f"{OUTER[stem]}.{suffix}"
        found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
        if not found or found[2] not in INNER:
            raise SystemExit(f"the tensor {hf!r} has no GGUF name")
        part = INNER[found[2]]
        if found[2] == "post_attention_layernorm" and self.arch in ("gemma2", "gemma3"):
            part = "post_attention_norm"
        return f"blk.{found[1]}.{part}.{suffix}"

    def values(self, name: str, tensor: np.ndarray) -> np.ndarray:
        """The tensor in GGUF's form."""
        if self.arch.startswith("gemma") and name.endswith("norm.weight"):
            return tensor + np.float32(1)
        if self.arch == "llama" and ".attn_q." in name:
            return self._interleave(tensor, self.heads)
        if self.arch == "llama" and ".attn_k." in name:
            return self._interleave(tensor, self.kv_heads)
        return tensor

    @staticmethod
    def _interleave(tensor: np.ndarray, heads: int) -> np.ndarray:
        """Rows of each head from halves (i, i + d/2) to pairs (2 i, 2 i + 1), as Llama in GGUF has them."""
        halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(tensor.shape)

    def add_tensors(self, tensors: dict[str, np.ndarray], qtype: T) -> None:
        for hf, tensor in tensors.items():
            if hf == "lm_head.weight" and self.config.get("tie_word_embeddings"):
                continue
            name = self.name(hf)
            data = self.values(name, tensor)
            chosen = T.F32 if data.ndim < 2 else fitting_type(qtype, data.shape[-1])
            self.writer.add_tensor(name, quantize(data, chosen), raw_dtype=chosen)
        if self.rope.get("rope_type") == "llama3":
            r = self.rope
            self.writer.add_tensor("rope_freqs.weight", rope_freq_divisors(
                r["rope_theta"], self.head_dim, r["factor"], r["low_freq_factor"], r["high_freq_factor"],
                r["original_max_position_embeddings"]))  # fmt: skip
        for key in ("long", "short"):
            if f"{key}_factor" in self.rope:
                factors = np.array(self.rope[f"{key}_factor"], np.float32)
                self.writer.add_tensor(f"rope_factors_{key}.weight", factors)


def convert(folder: Path, out: Path, qtype: T, split: int = 0) -> None:
    """Writes `out`; `split` > 0 starts a new part after so many tensors."""
    config, tensors = read_folder(folder)
    name = (config.get("architectures") or ["?"])[0]
    if name not in ARCHITECTURES:
        raise SystemExit(f"{folder}: cannot convert {name}; known are {', '.join(ARCHITECTURES)}")
    writer = GGUFWriter(out, ARCHITECTURES[name], split_max_tensors=split)
    converter = Converter(config, writer, ARCHITECTURES[name])
    converter.add_metadata()
    converter.add_tensors(tensors, qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
