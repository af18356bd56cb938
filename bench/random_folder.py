#!/usr/bin/env python3
"""Makes a Hugging Face folder of Llama's shape with random bf16 weights, for benchmarks on a GPU.

Usage: bench/random_folder.py 1b|8b OUT TOKENIZER     TOKENIZER: a folder with tokenizer.json and tokenizer_config.json of a
vocabulary of 128,256 (tests/.data/tokenizers/llama3_1 after `make test`). Needs torch and safetensors, and a CUDA device.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

VOCAB = 128256
SHAPES = {  # Llama 3.2 1B and Llama 3.1 8B
    "1b": {"hidden_size": 2048, "num_hidden_layers": 16, "head_dim": 64, "intermediate_size": 8192, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "num_hidden_layers": 32, "head_dim": 128, "intermediate_size": 14336,
           "tie_word_embeddings": False},
}
COMMON = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "num_attention_heads": 32,
          "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
          "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 128000, "eos_token_id": [128001, 128009]}
SHARD_BYTES = 4 << 30


class Shards:
    """Writes tensors into files of about SHARD_BYTES, and the index of which holds which."""

    def __init__(self, folder):
        self.folder, self.index, self.tensors, self.bytes, self.files = folder, {}, {}, 0, 0

    def add(self, name, tensor):
        self.tensors[name] = tensor
        self.bytes += tensor.numel() * 2
        if self.bytes > SHARD_BYTES:
            self.flush()

    def flush(self):
        file = f"model-{self.files:05d}.safetensors"
        save_file(self.tensors, self.folder / file)
        self.index |= dict.fromkeys(self.tensors, file)
        self.tensors, self.bytes, self.files = {}, 0, self.files + 1

    def close(self):
        self.flush()
        (self.folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": self.index}))


def matrix(rows, columns):
    return (torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16) * columns**-0.5).cpu()


def main():
    kind, folder, tokenizer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    config = COMMON | SHAPES[kind]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    hidden, ff, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    shards = Shards(folder)
    shards.add("model.embed_tokens.weight", matrix(VOCAB, hidden))
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, rows, columns in (("self_attn.q_proj", q, hidden), ("self_attn.k_proj", kv, hidden),
                                    ("self_attn.v_proj", kv, hidden), ("self_attn.o_proj", hidden, q),
                                    ("mlp.gate_proj", ff, hidden), ("mlp.up_proj", ff, hidden), ("mlp.down_proj", hidden, ff)):
            shards.add(f"{at}{name}.weight", matrix(rows, columns))
        for name in ("input_layernorm", "post_attention_layernorm"):
            shards.add(f"{at}{name}.weight", torch.ones(hidden, dtype=torch.bfloat16))
    shards.add("model.norm.weight", torch.ones(hidden, dtype=torch.bfloat16))
    if not config["tie_word_embeddings"]:
        shards.add("lm_head.weight", matrix(VOCAB, hidden))
    shards.close()


if __name__ == "__main__":
    main()
