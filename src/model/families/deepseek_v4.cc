// DeepSeek-V4 (2026): several residual streams; one shared key over a window, and older text compressed, by layer
// heavily, or lightly with an indexer that chooses; the first layers' experts follow from the token.
#include <cmath>

#include "base/error.h"
#include "model/family.h"

namespace baize {

static CompressedAttnSpec attention(const Meta& meta, int64_t layer) {
  CompressedAttnSpec a;
  a.heads = meta.integer("num_attention_heads");
  a.head_dim = meta.integer("head_dim");
  a.q_rank = meta.integer("q_lora_rank");
  a.window = meta.integer("sliding_window");
  a.scale = 1 / std::sqrt(static_cast<float>(a.head_dim));
  a.q_norm = a.kv_norm = a.head_norm = {.present = true, .eps = meta.number("rms_norm_eps", 1e-6f)};
  a.head_norm.weightless = true;
  a.o_groups = meta.integer("o_groups");
  a.o_rank = meta.integer("o_lora_rank");
  const std::string type =
      meta.text_at("layer_types", layer,
                   layer < 2 || layer % 2 == 0 ? "heavily_compressed_attention" : "compressed_sparse_attention");
  a.overlap = type == "compressed_sparse_attention";
  const bool compresses = type != "sliding_attention";
  if (compresses) a.rate = meta.inner("compress_rates").integer(type, a.overlap ? 4 : 128);
  a.rope = meta.rope(a.head_dim, compresses ? "compress" : "main");
  a.rope.interleaved = true;
  a.rope.offset = a.head_dim - a.rope.rot_dim;
  if (!a.overlap) return a;
  a.indexer = {.top_k = meta.integer("index_topk"),
               .heads = meta.integer("index_n_heads"),
               .head_dim = meta.integer("index_head_dim"),
               .rope = a.rope};
  a.indexer.rope.offset = a.indexer.head_dim - a.rope.rot_dim;
  return a;
}

static MoeFfn experts(const Meta& meta) {
  MoeFfn moe = moe_like(meta);
  moe.shared.ff = moe.expert.ff;  // one, whatever the count
  moe.renormalise = true;
  moe.norm_min = 1e-20f;
  moe.expert.limit = moe.shared.limit = meta.number("swiglu_limit", 10);
  const std::string score = meta.text("scoring_func", "sqrtsoftplus");
  moe.score = score == "softmax"   ? RouteArgs::Score::kSoftmax
              : score == "sigmoid" ? RouteArgs::Score::kSigmoid
                                   : RouteArgs::Score::kSqrtSoftplus;
  return moe;
}

static ModelSpec deepseek_v4(const Meta& meta) {
  ModelSpec spec = layers_like(meta);
  spec.hyper = {.streams = meta.integer("hc_mult", 4),
                .mix_rounds = meta.integer("hc_sinkhorn_iters", 20),
                .eps = meta.number("hc_eps", 1e-6f),
                .norm_eps = spec.final_norm.eps};
  const int64_t hashed = meta.integer("num_hash_layers", 3);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    MoeFfn moe = experts(meta);
    moe.hashed = meta.text_at("mlp_layer_types", layer, layer < hashed ? "hash_moe" : "moe") == "hash_moe";
    spec.layers[i].sub = {Sublayer{spec.final_norm, attention(meta, layer), {}}, Sublayer{spec.final_norm, moe, {}}};
  }
  return spec;
}
FAMILY(deepseek_v4, ("DeepseekV4ForCausalLM"), ());

}  // namespace baize
