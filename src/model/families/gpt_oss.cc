// gpt-oss (OpenAI 2025): biases, sinks, windows in every other layer, experts with a clamped gate whose rows alternate
// with those of the up matrix.
#include "model/family.h"

namespace baize {

static ModelSpec gpt_oss(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  windows_by_type(meta, spec, [](int64_t i) { return i % 2 == 0; });
  for (LayerSpec& layer : spec.layers) {  // no key of GGUF says it
    if (meta.gguf()) attn(layer).rope = meta.rope(attn(layer).head_dim);
    if (meta.gguf()) attn(layer).rope.truncate = false;
  }
  MoeFfn moe = moe_like(meta);
  moe.score = RouteArgs::Score::kLogit;
  moe.softmax_last = true;
  moe.expert.activation = Activation::kGeluQuick;
  moe.expert.limit = 7;
  moe.expert.up_shift = 1;
  moe.expert.pairs = moe.transposed = !meta.gguf();
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(gpt_oss, ("GptOssForCausalLM"), ("gpt-oss"));
STORES(gpt_oss, "attn.sinks.weight", "moe.router.bias", "moe.all.gate_up.weight", "moe.all.gate_up.bias",
       "moe.all.down.bias");

}  // namespace baize
