#!/usr/bin/env python3
"""Makes golden cases in the form of those in tests/data/hf.tar.xz: tiny random models with the logits of `transformers`.

Usage: tests/reference/make_cases.py FOLDER [NAME...]     writes FOLDER/NAME/{config.json,model.safetensors,golden.json}
Needs transformers 5.17 and torch (CPU), so CI does not run it. Made in build/goldens/hf, the cases run with the archive's
(`make unit`); they are those whose mechanisms the archive's do not reach.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, CONFIG_MAPPING

SMALL = {"vocab_size": 128, "hidden_size": 32, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
         "eos_token_id": 2, "tie_word_embeddings": False}
CASES = {
    # Every kind of layer, rates that divide no page, YaRN, hashed and chosen experts.
    "deepseek_v4+layers": ("deepseek_v4", SMALL | {
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "q_lora_rank": 24,
        "layer_types": ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention",
                        "compressed_sparse_attention"],
        "mlp_layer_types": ["hash_moe", "moe", "moe", "hash_moe"],
        "compress_rates": {"compressed_sparse_attention": 3, "heavily_compressed_attention": 10},
        "sliding_window": 6, "o_groups": 2, "o_lora_rank": 12, "index_n_heads": 8, "index_head_dim": 24,
        "index_topk": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "hc_mult": 3,
        "hc_sinkhorn_iters": 4, "partial_rotary_factor": 0.5, "rope_theta": 100.0, "compress_rope_theta": 500.0,
        "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    }),
    # Layers that share a choice, and enough indexer heads that no score is exactly 0.
    "glm_moe_dsa+shared": ("glm_moe_dsa", SMALL | {
        "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 48,
        "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12,
        "index_n_heads": 16, "index_head_dim": 20, "index_topk": 7, "first_k_dense_replace": 2,
        "indexer_types": ["full", "shared", "full", "shared"],
    }),
}


def draw(model, generator):
    """Weights wide enough that every mechanism shows in the logits."""
    for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
        if not tensor.is_floating_point() or "inv_freq" in name:
            if "tid2eid" in name:
                count = model.config.n_routed_experts
                tensor.data = torch.stack([torch.randperm(count, generator=generator)[:tensor.shape[1]]
                                           for _ in range(tensor.shape[0])])
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            noise = 1 + 0.3 * noise
        elif tensor.dim() < 2 or "position_bias" in name:
            noise = 0.5 * noise
        elif "embed" not in name:
            noise = noise * 1.3 / tensor.shape[-1] ** 0.5
        tensor.data = noise.to(torch.bfloat16).to(tensor.dtype)


def make(name, folder):
    kind, settings = CASES[name]
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**settings), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(7)
    draw(model, generator)
    vocab = model.config.vocab_size
    ids = torch.randint(3, vocab, (20,), generator=generator).tolist()
    long_ids = torch.randint(3, vocab, (96,), generator=generator).tolist()

    def logits(text):
        with torch.no_grad():
            return model(torch.tensor([text]), use_cache=False).logits[0].float()

    generated = []
    while len(generated) < 12:
        generated.append(int(logits(ids + generated)[-1].argmax()))
    rounded = lambda rows: [[round(float(value), 4) for value in row] for row in rows]
    golden = {"input_ids": ids, "logits": rounded(logits(ids)), "generated": generated, "consistent": True,
              "vocab": vocab, "params": sum(p.numel() for p in model.parameters()),
              "architecture": type(model).__name__, "transformers": __import__("transformers").__version__,
              "long_ids": long_ids, "long_logits": rounded(logits(long_ids)[-8:]), "long_consistent": None}
    target = Path(folder) / name
    model.to(torch.bfloat16).save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)
    (target / "golden.json").write_text(json.dumps(golden))


def main():
    for name in sys.argv[2:] or CASES:
        make(name, sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
