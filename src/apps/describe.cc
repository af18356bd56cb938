#include "apps/describe.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace baize::apps {

namespace {

// "layers.*.attn.q" for "layers.3.attn.q".
std::string without_layer(const std::string& name) {
  constexpr std::string_view kStem = "layers.";
  if (!name.starts_with(kStem)) return name;
  const size_t dot = name.find('.', kStem.size());
  return dot == std::string::npos ? name : "layers.*" + name.substr(dot);
}

bool same_kind(const WeightInfo& a, const WeightInfo& b) {
  return a.shape.format == b.shape.format && a.shape.n == b.shape.n && a.shape.k == b.shape.k && a.pack == b.pack &&
         a.kernels == b.kernels;
}

const char* name_of(RopeSpec::Kind kind) {
  switch (kind) {
    case RopeSpec::Kind::kNone:
      return "no rotation";
    case RopeSpec::Kind::kDefault:
      return "rotary";
    case RopeSpec::Kind::kLinear:
      return "rotary, linear scaling";
    case RopeSpec::Kind::kDynamic:
      return "rotary, dynamic NTK";
    case RopeSpec::Kind::kYarn:
      return "rotary, YaRN";
    case RopeSpec::Kind::kLlama3:
      return "rotary, llama3 scaling";
    case RopeSpec::Kind::kFactors:
      return "rotary, a factor a dimension";
  }
  return "?";
}

const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return "SiLU";
    case Activation::kGelu:
      return "GELU";
    case Activation::kGeluTanh:
      return "GELU (tanh)";
    case Activation::kRelu:
      return "ReLU";
    case Activation::kRelu2:
      return "squared ReLU";
    case Activation::kGeluQuick:
      return "GELU (sigmoid)";
    case Activation::kSigmoid:
      return "sigmoid";
    case Activation::kSoftplus:
      return "softplus";
    case Activation::kTanh:
      return "tanh";
    case Activation::kXielu:
      return "xIELU";
    case Activation::kIdentity:
      return "none";
  }
  return "?";
}

std::string describe(const AttnSpec& a) {
  std::string text = fmt::format("attention, {} heads of {}", a.heads, a.head_dim);
  if (a.kv_heads != a.heads) text += fmt::format(" ({} for keys and values)", a.kv_heads);
  text += fmt::format(", {}", name_of(a.rope.kind));
  if (a.rope.kind != RopeSpec::Kind::kNone) text += fmt::format(", theta {:g}", a.rope.theta);
  if (a.rope.kind != RopeSpec::Kind::kNone && a.rope.rot_dim != a.head_dim) {
    text += fmt::format(", {} dimensions of it", a.rope.rot_dim);
  }
  if (a.window > 0) text += fmt::format(", window {}", a.window);
  if (a.softcap > 0) text += fmt::format(", softcap {:g}", a.softcap);
  if (a.q_norm.present) text += ", normed q and k";
  return text;
}

std::string describe(const DenseFfn& ffn) {
  return fmt::format("feed-forward {}, {}{}", ffn.ff, name_of(ffn.activation), ffn.gated ? "" : ", no gate");
}

std::string describe(const MlaSpec& a) {
  std::string text =
      fmt::format("latent attention, {} heads of {} + {}, rank {}", a.heads, a.nope_dim, a.rope_dim, a.kv_rank);
  if (a.indexer.top_k > 0) text += fmt::format(", sees {} positions", a.indexer.top_k);
  return text;
}

std::string describe(const CompressedAttnSpec& a) {
  std::string text =
      fmt::format("attention of one shared key, {} heads of {}, window {}", a.heads, a.head_dim, a.window);
  if (a.rate > 0) text += fmt::format(", {} tokens a compressed key", a.rate);
  if (a.indexer.top_k > 0) text += fmt::format(", sees {} of these", a.indexer.top_k);
  return text;
}

std::string describe(const RecurrenceSpec& r) {
  return fmt::format("linear attention with decay, {} heads of {} x {}", r.heads, r.key_dim, r.value_dim);
}

std::string describe(const MambaSpec& m) { return fmt::format("Mamba {}, state {}", m.width, m.state); }

std::string describe(const ShortConvSpec& c) { return fmt::format("convolution over {} tokens", c.conv); }

std::string describe(const LruSpec& r) { return fmt::format("gated linear recurrence of {}", r.width); }

std::string describe(const RwkvSpec& r) { return fmt::format("{} mixing of {}", r.time ? "time" : "channel", r.width); }

std::string describe(const LayerInputSpec& l) { return fmt::format("input of its own, {}", l.width); }

std::string describe(const AttnExpertsSpec& a) {
  return fmt::format("{} of {} experts' {}", a.top_k, a.experts, describe(a.attention));
}

std::string describe(const MatrixSpec& m) { return fmt::format("matrix to {}", m.width); }

std::string describe(const MoeFfn& moe) {
  std::string text = fmt::format("{} of {} experts of {}", moe.top_k, moe.experts, moe.expert.ff);
  if (moe.shared.ff > 0) text += fmt::format(" and a shared one of {}", moe.shared.ff);
  return text + fmt::format(", {}", name_of(moe.expert.activation));
}

}  // namespace

std::vector<WeightGroup> group_weights(const Model& model) {
  std::vector<WeightGroup> groups;
  for (const WeightInfo& weight : model.weights) {
    const std::string name = without_layer(weight.name);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const WeightGroup& other) {
      return other.name == name && same_kind(other.first, weight);
    });
    if (group == groups.end()) group = groups.insert(group, {name, weight, 0, 0});
    ++group->count;
    group->resident_bytes += weight.resident_bytes;
  }
  return groups;
}

std::vector<std::string> describe_layers(const ModelSpec& spec) {
  std::vector<std::string> lines;
  for (size_t begin = 0, end = 0; begin < spec.layers.size(); begin = end) {
    while (end < spec.layers.size() && spec.layers[end] == spec.layers[begin]) ++end;
    std::string line =
        end - begin == 1 ? fmt::format("layer {}:", begin) : fmt::format("layers {}-{}:", begin, end - 1);
    for (size_t i = 0; i < spec.layers[begin].sub.size(); ++i) {
      line += i == 0 ? " " : "; ";
      line += std::visit([](const auto& block) { return describe(block); }, spec.layers[begin].sub[i].block);
    }
    lines.push_back(line);
  }
  return lines;
}

std::string kernel_names(const WeightInfo& weight) {
  std::vector<std::string> names;
  for (const LinearKernel* kernel : weight.kernels) {
    if (kernel != nullptr) names.emplace_back(kernel->name);
  }
  if (!names.empty() && std::all_of(names.begin(), names.end(), [&](const auto& n) { return n == names[0]; })) {
    names.resize(1);
  }
  return fmt::format("{}", fmt::join(names, " / "));
}

CacheBytes cache_bytes(const Model& model) {
  CacheBytes bytes;
  for (const CacheGroup& group : cache_layout(model).groups) {
    if (group.need.kind == StateNeed::Kind::kWindow) {
      bytes.windows += group.token_bytes() * group.need.window;
    } else if (group.fixed()) {
      bytes.windows += group.states * group.need.bytes;
    } else {
      bytes.per_token += group.token_bytes();
    }
  }
  return bytes;
}

}  // namespace baize::apps
