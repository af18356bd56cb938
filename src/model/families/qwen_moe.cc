// Qwen1.5-MoE and Qwen2-57B (Yang et al. 2024): softmax experts and a gated shared one; Qwen3-MoE (2025): q/k norms
// instead of biases, no shared expert. Mellum (JetBrains 2026) adds windows.
#include "model/family.h"

namespace baize {

static ModelSpec qwen2_moe(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  if (meta.flag("use_sliding_window", false)) windows_by_type(meta, spec);
  MoeFfn moe = moe_like(meta);
  moe.shared.ff = meta.integer("shared_expert_intermediate_size", 0);
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(qwen2_moe, ("Qwen2MoeForCausalLM"), ("qwen2moe"));
STORES(qwen2_moe, "attn.q.bias", "attn.k.bias", "attn.v.bias", "moe.shared.out_gate.weight");

static ModelSpec qwen3_moe(const Meta& meta) {
  ModelSpec spec = qwen2_moe(meta);
  norm_qk(spec);
  for (LayerSpec& layer : spec.layers) {  // most GGUF files do not say it
    MoeFfn* moe = std::get_if<MoeFfn>(&layer.sub.back().block);
    if (moe != nullptr && meta.gguf()) moe->renormalise = meta.flag("norm_topk_prob", true);
  }
  return spec;
}
FAMILY(qwen3_moe, ("Qwen3MoeForCausalLM"), ("qwen3moe"));

static ModelSpec mellum(const Meta& meta) {
  ModelSpec spec = qwen3_moe(meta);
  windows_by_type(meta, spec);
  return spec;
}
FAMILY(mellum, ("MellumForCausalLM"), ("mellum"));

}  // namespace baize
