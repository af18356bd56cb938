#include "model/family.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/text.h"

namespace baize {

namespace {

std::vector<Family>& registry() {
  static std::vector<Family> list;
  return list;
}

const std::vector<std::string>& names_of(const Family& family, bool gguf) {
  return gguf ? family.gguf_architectures : family.hf_architectures;
}

}  // namespace

FamilyRegistration::FamilyRegistration(Family family) { registry().push_back(std::move(family)); }

StoresRegistration::StoresRegistration(const char* family, std::vector<std::string> stored) {
  for (Family& known : registry()) {
    if (std::string_view(known.name) == family) known.stored = std::move(stored);
  }
}

WrittenAsRegistration::WrittenAsRegistration(const char* family, const char* architecture) {
  for (Family& known : registry()) {
    if (std::string_view(known.name) == family) known.written_as = architecture;
  }
}

std::span<const Family> families() { return registry(); }

const Family& find_family(const Meta& meta) {
  std::vector<std::string> known;
  for (const Family& family : registry()) {
    for (const std::string& name : names_of(family, meta.gguf())) {
      for (const std::string& wanted : meta.architectures()) {
        if (name == wanted) return family;
      }
      known.push_back(name);
    }
  }
  std::string close;
  for (const std::string& name : closest_names(meta.architectures().front(), known)) {
    close += (close.empty() ? "" : ", ") + name;
  }
  fail(ErrorKind::kUnsupported, "{}: architecture \"{}\" is not known; the closest known names are {}",
       meta.checkpoint().path(), meta.architectures().front(), close);
}

namespace {

// Dynamic NTK follows the length of the text, so max_position_embeddings is where it sets in and no limit. Quality
// falls with the stretch, so some limit is wise: this many times that length.
constexpr int64_t kDynamicStretch = 8;

int64_t default_context(const ModelSpec& spec) {
  int64_t context = spec.dims.context;
  for (const LayerSpec& layer : spec.layers) {
    for (const Sublayer& sub : layer.sub) {
      const AttnSpec* attention = std::get_if<AttnSpec>(&sub.block);
      if (attention == nullptr || attention->rope.kind != RopeSpec::Kind::kDynamic) continue;
      context = std::max(context, kDynamicStretch * attention->rope.original_length);
    }
  }
  return context;
}

}  // namespace

ModelSpec make_spec(const Checkpoint& checkpoint, int64_t context) {
  const Meta meta(checkpoint, context);
  ModelSpec spec = find_family(meta).spec(meta);
  if (context == 0) spec.dims.context = default_context(spec);
  check_spec(spec);
  return spec;
}

ModelSpec llama_like(const Meta& meta) {
  const NormSpec norm{.present = true, .eps = meta.number("rms_norm_eps", 1e-6f)};
  AttnSpec attention;
  attention.heads = meta.positive("num_attention_heads");
  attention.kv_heads = meta.entry("num_key_value_heads", 0, attention.heads);
  const int64_t hidden = meta.integer("hidden_size");
  attention.head_dim = meta.integer("head_dim", hidden / attention.heads);
  if (attention.head_dim <= 0) {
    fail(ErrorKind::kCorrupt, "{}: a hidden size of {} cannot be cut into {} heads", meta.checkpoint().path(), hidden,
         attention.heads);
  }
  attention.scale = 1 / std::sqrt(static_cast<float>(attention.head_dim));
  if (meta.has("max_position_embeddings")) attention.rope = meta.rope(attention.head_dim);
  const DenseFfn ffn{.ff = meta.entry("intermediate_size", 0, 0), .activation = meta.activation("silu")};

  ModelSpec spec;
  spec.dims.hidden = hidden;
  spec.dims.vocab = meta.vocab();
  spec.dims.context = meta.context();
  spec.final_norm = norm;
  spec.head.tied = meta.flag("tie_word_embeddings", false);
  spec.layers.assign(static_cast<size_t>(meta.layers()),
                     LayerSpec{{Sublayer{norm, attention, {}}, Sublayer{norm, ffn, {}}}});
  for (int64_t i = 0; i < std::ssize(spec.layers); ++i)  // GGUF may have a list, 0 where a layer has no attention
    attn(spec.layers[static_cast<size_t>(i)]).kv_heads = meta.entry("num_key_value_heads", i, attention.heads);
  return spec;
}

ModelSpec layers_like(const Meta& meta) {
  ModelSpec spec;
  spec.dims.hidden = meta.integer("hidden_size");
  spec.dims.vocab = meta.vocab();
  spec.dims.context = meta.context();
  spec.final_norm = {.present = true, .eps = meta.number("rms_norm_eps", 1e-6f)};
  spec.head.tied = meta.flag("tie_word_embeddings", false);
  spec.layers.resize(static_cast<size_t>(meta.layers()));
  return spec;
}

ModelSpec layer_norm_like(const Meta& meta, std::string_view activation) {
  ModelSpec spec = llama_like(meta.with_defaults({{"rms_norm_eps", 1e-5}}));
  for_each_norm(spec, [](NormSpec& norm) { norm.center = true; });
  for (LayerSpec& layer : spec.layers) {
    ffn(layer).gated = false;
    ffn(layer).activation = meta.activation(activation);
  }
  return spec;
}

MoeFfn moe_like(const Meta& meta) {
  MoeFfn moe;
  moe.experts = meta.integer("num_experts");
  moe.top_k = meta.integer("num_experts_per_tok");
  moe.expert.ff = meta.integer("moe_intermediate_size", meta.integer("intermediate_size", 0));
  moe.expert.activation = meta.activation("silu");
  moe.shared = moe.expert;
  moe.shared.ff = meta.integer("num_shared_experts", 0) * moe.expert.ff;
  if (meta.gguf()) moe.shared.ff = meta.integer("shared_expert_intermediate_size", moe.shared.ff);
  moe.renormalise = meta.flag("norm_topk_prob", false);
  moe.scale = meta.number("routed_scaling_factor", 1);
  return moe;
}

MoeFfn sigmoid_moe(const Meta& meta) {
  MoeFfn moe = moe_like(meta);
  moe.score = RouteArgs::Score::kSigmoid;
  moe.renormalise = meta.flag("norm_topk_prob", true);
  moe.norm_min = 1e-20f;
  moe.groups = meta.integer("n_group", 1);
  moe.top_groups = meta.integer("topk_group", 1);
  return moe;
}

bool is_sparse(const Meta& meta, int64_t layer, int64_t first) {
  if (meta.has("mlp_layer_types")) return meta.text_at("mlp_layer_types", layer, "") == "sparse";
  if (meta.lists("mlp_only_layers", layer) || meta.integer("num_experts", 0) == 0) return false;
  const int64_t step = meta.positive("decoder_sparse_step", 1);
  return layer >= meta.integer("first_k_dense_replace", first) && (layer + 1) % step == 0;
}

void use_experts(const Meta& meta, ModelSpec& spec, const MoeFfn& moe, int64_t first) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (is_sparse(meta, static_cast<int64_t>(i), first)) spec.layers[i].sub.back().block = moe;
  }
}

void windows_by_type(const Meta& meta, ModelSpec& spec, const std::function<bool(int64_t)>& slides) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    const auto index = static_cast<int64_t>(i);
    const std::string type = meta.layer_type(index, slides(index) ? "sliding_attention" : "full_attention");
    if (type == "sliding_attention") a.window = meta.integer("sliding_window", 0);
    if (a.rope.kind != RopeSpec::Kind::kNone) a.rope = meta.rope(a.head_dim, type);
  }
}

void norm_qk(ModelSpec& spec, Axis axis) {
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    a.q_norm = a.k_norm = layer.sub.front().pre.present ? layer.sub.front().pre : layer.sub.front().post;
    a.norm_axis = axis;
  }
}

void norm_after(LayerSpec& layer) {
  for (Sublayer& sub : layer.sub) {
    sub.after = sub.pre;
    sub.pre = {};
  }
}

void norm_post(LayerSpec& layer) {
  for (Sublayer& sub : layer.sub) {
    sub.post = sub.pre;
    sub.pre = {};
  }
}

void sandwich(LayerSpec& layer) {
  for (Sublayer& sub : layer.sub) sub.post = sub.pre;
}

namespace {

template <typename T>
T& block_of(LayerSpec& layer, const char* name) {
  for (Sublayer& sub : layer.sub) {
    if (T* block = std::get_if<T>(&sub.block)) return *block;
  }
  fail(ErrorKind::kCorrupt, "the configuration describes a layer without the {} that its architecture has", name);
}

}  // namespace

AttnSpec& attn(LayerSpec& layer) { return block_of<AttnSpec>(layer, "attention"); }
DenseFfn& ffn(LayerSpec& layer) { return block_of<DenseFfn>(layer, "dense feed-forward block"); }
MoeFfn& moe(LayerSpec& layer) { return block_of<MoeFfn>(layer, "experts"); }
MlaSpec& mla(LayerSpec& layer) { return block_of<MlaSpec>(layer, "latent attention"); }
RecurrenceSpec state_space_like(const Meta& meta) {
  RecurrenceSpec r;
  r.heads = meta.integer("mamba_n_heads", 0);
  r.value_dim = meta.integer("mamba_d_head", 64);
  r.key_heads = meta.integer("mamba_n_groups", 1);
  r.key_dim = meta.integer("mamba_d_state");
  r.conv = meta.integer("mamba_d_conv", 4);
  r.activation = meta.activation("silu");
  r.least_step = meta.number_at("time_step_limit", 0, 0);
  r.most_step = std::min(meta.number_at("time_step_limit", 1, r.most_step), r.most_step);
  r.norm = {.present = true, .eps = meta.number("rms_norm_eps", 1e-5f)};
  r.norm_groups = r.key_heads;
  return r;
}

RecurrenceSpec delta_like(const Meta& meta) {
  RecurrenceSpec r;
  r.kind = RecurrenceSpec::Kind::kDelta;
  r.heads = meta.integer("linear_num_value_heads");
  r.key_heads = meta.integer("linear_num_key_heads");
  r.key_dim = meta.integer("linear_key_head_dim");
  r.value_dim = meta.integer("linear_value_head_dim");
  r.conv = meta.integer("linear_conv_kernel_dim", 4);
  r.activation = meta.activation("silu");
  r.norm = {.present = true, .eps = meta.number("rms_norm_eps", 1e-6f)};
  r.norm_groups = r.heads;
  r.norm_first = true;
  return r;
}

bool has_attention(const LayerSpec& layer) { return std::holds_alternative<AttnSpec>(layer.sub.front().block); }

void for_each_norm(ModelSpec& spec, const std::function<void(NormSpec&)>& change) {
  for (LayerSpec& layer : spec.layers) {
    for (Sublayer& sub : layer.sub) {
      change(sub.pre);
      change(sub.post);
      change(sub.after);
      if (auto* r = std::get_if<RecurrenceSpec>(&sub.block)) change(r->norm);
      if (AttnSpec* a = std::get_if<AttnSpec>(&sub.block)) {
        change(a->q_norm);
        change(a->k_norm);
      }
    }
  }
  change(spec.final_norm);
}

}  // namespace baize
