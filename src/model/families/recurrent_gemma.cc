// RecurrentGemma (Botev et al. 2024): attention in every third layer, RG-LRU in the others.
#include <cmath>

#include "model/family.h"
#include "tensor/dtype.h"

namespace baize {

static ModelSpec recurrent_gemma(const Meta& file) {
  const Meta meta = file.with_defaults({{"max_position_embeddings", 8192}, {"partial_rotary_factor", 0.5}});
  ModelSpec spec = llama_like(meta);
  for_each_norm(spec, [](NormSpec& norm) { norm.plus_one = true; });
  spec.embed.alpha = bf16_to_f32(f32_to_bf16(std::sqrt(static_cast<float>(spec.dims.hidden))));  // kept as bf16
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  spec.head.softcap = meta.number("logits_soft_cap", 30);
  const LruSpec lru{.width = meta.integer("lru_width", spec.dims.hidden),
                    .blocks = meta.integer("num_attention_heads"),
                    .conv = meta.integer("conv1d_width", 4),
                    .activation = meta.activation("gelu_pytorch_tanh")};
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    ffn(spec.layers[i]).ff /= 2;
    ffn(spec.layers[i]).activation = lru.activation;
    attn(spec.layers[i]).window = meta.integer("attention_window_size", 2048);
    const std::string usual = i % 3 == 2 ? "attention" : "recurrent";
    if (meta.text_at("block_types", static_cast<int64_t>(i), usual) == "recurrent") spec.layers[i].sub[0].block = lru;
  }
  return spec;
}
FAMILY(recurrent_gemma, ("RecurrentGemmaForCausalLM"), ());
STORES(recurrent_gemma, "*.bias", "-attn.q.bias", "-attn.k.bias", "-attn.v.bias");

}  // namespace baize
