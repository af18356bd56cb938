// Zamba (Glorioso et al. 2024; Mamba) and Zamba2 (2024; Mamba-2): in some layers a transformer layer whose weights they
// share reads x beside the embedding; through a matrix of the layer's own, its result is added to what the recurrence
// reads. Zamba2 takes several such layers in turn, each with low-rank additions for every layer that it serves.
#include <cmath>

#include "model/family.h"

namespace baize {

static ModelSpec zamba_like(const Meta& file, const Block& recurrence, int64_t shared) {
  const int64_t hidden = file.integer("hidden_size"), head_dim = 2 * hidden / file.positive("num_attention_heads");
  const Meta meta = file.with_defaults({{"head_dim", file.integer("attention_head_dim", head_dim)},
                                        {"intermediate_size", 4 * hidden},
                                        {"hidden_act", "gelu"},
                                        {"tie_word_embeddings", true},
                                        {"rms_norm_eps", 1e-5}});
  ModelSpec spec = llama_like(meta);
  std::vector<int64_t> hybrids;
  for (int64_t i = 0; i < meta.layers(); ++i) {
    LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    Sublayer recurs{.pre = spec.final_norm, .block = recurrence};
    if (meta.text_at("layers_block_type", i, "") != "hybrid") {
      layer.sub = {recurs};
      continue;
    }
    const auto index = static_cast<int64_t>(hybrids.size());
    hybrids.push_back(i);
    AttnSpec& a = attn(layer);
    a.width = 2 * hidden;
    a.scale = std::sqrt(2 / static_cast<float>(a.head_dim));
    if (!meta.flag("use_mem_rope", false)) a.rope = {};
    a.adapter = ffn(layer).adapter = index;
    for (Sublayer& sub : layer.sub) sub.weights_of = hybrids[static_cast<size_t>(index % shared)];
    layer.sub[0].input = Sublayer::Input::kWithEmbedding;
    layer.sub[1].input = Sublayer::Input::kGiven;
    recurs.input = Sublayer::Input::kStreamAndGiven;
    layer.sub.push_back({.block = MatrixSpec{hidden}, .input = Sublayer::Input::kGiven});
    layer.sub.push_back(recurs);
  }
  return spec;
}

static ModelSpec zamba(const Meta& meta) {
  const int64_t hidden = meta.integer("hidden_size");
  const Meta inner = meta.with_defaults({{"hidden_activation", meta.text("hidden_mamba_act", "silu")}});
  const bool automatic = meta.count("mamba_dt_rank") > 0 || !meta.has("mamba_dt_rank");  // "auto"
  return zamba_like(meta,
                    MambaSpec{.width = meta.integer("mamba_expand", 2) * hidden,
                              .state = meta.integer("mamba_d_state", 16),
                              .rank = automatic ? (hidden + 15) / 16 : meta.integer("mamba_dt_rank"),
                              .conv = meta.integer("mamba_d_conv", 4),
                              .activation = inner.activation("silu"),
                              .heads = meta.integer("n_mamba_heads", 2),
                              .pairs = true},
                    1);
}
FAMILY(zamba, ("ZambaForCausalLM"), ());
STORES(zamba, "rec.conv.bias", "rec.dt.bias");

static ModelSpec zamba2(const Meta& file) {
  const int64_t heads = file.integer("n_mamba_heads", 8);
  const int64_t width = file.integer("mamba_expand", 2) * file.integer("hidden_size");
  const Meta meta = file.with_defaults({{"mamba_n_heads", heads},
                                        {"mamba_d_head", width / std::max<int64_t>(1, heads)},
                                        {"mamba_n_groups", file.integer("mamba_ngroups", 1)},
                                        {"mamba_d_state", 64}});
  RecurrenceSpec recurrence = state_space_like(meta);
  recurrence.activation = Activation::kSilu;
  recurrence.norm.eps = 1e-5f;
  recurrence.least_step = meta.number("time_step_min", 0.001f);  // and time_step_limit is not read
  recurrence.most_step = RecurrenceSpec().most_step;
  return zamba_like(meta, recurrence, meta.positive("num_mem_blocks", 1));
}
FAMILY(zamba2, ("Zamba2ForCausalLM"), ());
STORES(zamba2, "rec.conv.bias");

}  // namespace baize
