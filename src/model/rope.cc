#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/mutate.h"
#include "model/meta.h"
#include "ops/dequant.h"

namespace baize {

namespace {

// YaRN (Peng et al. 2023): frequencies that turn often keep their pace, slow ones are interpolated, a ramp between.
void apply_yarn(const RopeSpec& spec, std::vector<float>& inv_freq) {
  const double dim = static_cast<double>(spec.rot_dim);
  const auto correction = [&](double rotations) {
    return dim * std::log(static_cast<double>(spec.original_length) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(static_cast<double>(spec.theta)));
  };
  double low = correction(spec.beta_fast);
  double high = correction(spec.beta_slow);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const auto ramp = static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    inv_freq[i] = inv_freq[i] / spec.factor * ramp + inv_freq[i] * (1 - ramp);
  }
}

// Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended.
void apply_llama3(const RopeSpec& spec, std::vector<float>& inv_freq) {
  const auto length = static_cast<float>(spec.original_length);
  for (float& f : inv_freq) {
    const float wave = 2 * std::numbers::pi_v<float> / f;
    if (wave < length / spec.high_freq_factor) continue;
    if (wave > length / spec.low_freq_factor) {
      f /= spec.factor;
      continue;
    }
    const float smooth = (length / wave - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
    f = (1 - smooth) * f / spec.factor + smooth * f;
  }
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeSpec& spec) {
  using Kind = RopeSpec::Kind;
  std::vector<float> inv_freq(static_cast<size_t>(spec.rot_dim / 2));
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const int64_t dims = spec.denominator > 0 ? spec.denominator : spec.rot_dim;
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dims);
    inv_freq[i] = 1.0f / std::pow(spec.theta, exponent);
  }
  if (spec.turning > 0 && !mutated("rope.turning")) {
    for (size_t i = static_cast<size_t>(spec.turning); i < inv_freq.size(); ++i) inv_freq[i] = 0;
  }
  if (spec.kind == Kind::kLinear && !mutated("rope.linear")) {
    for (float& f : inv_freq) f /= spec.factor;
  } else if (spec.kind == Kind::kYarn && !mutated("rope.yarn")) {
    apply_yarn(spec, inv_freq);
  } else if (spec.kind == Kind::kLlama3 && !mutated("rope.llama3")) {
    apply_llama3(spec, inv_freq);
  } else if (spec.kind == Kind::kFactors && !mutated("rope.factors")) {
    for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] = 1.0f / (spec.factors[i] / inv_freq[i]);
  }
  if (spec.backwards && !mutated("rope.backwards")) {
    for (float& f : inv_freq) f = -f;
  }
  return inv_freq;
}

namespace {

// The scaling part of a rope configuration, in any of its spellings, as one JSON object.
class RopeConfig {
 public:
  RopeConfig(const Json& params, std::string where) : params_(params), where_(std::move(where)) {}

  std::string kind() const {
    for (const char* key : {"rope_type", "type"}) {
      if (const auto it = params_.find(key); it != params_.end() && it->is_string()) return it->get<std::string>();
    }
    return "default";
  }
  bool has(const char* key) const {
    const auto it = params_.find(key);
    return it != params_.end() && !it->is_null();
  }
  float number(const char* key) const {
    const auto it = params_.find(key);
    if (it == params_.end() || !it->is_number() || !std::isfinite(it->get<float>())) {
      fail(ErrorKind::kCorrupt, "{}: the rope configuration needs a finite number \"{}\"", where_, key);
    }
    return it->get<float>();
  }
  float number(const char* key, float otherwise) const { return has(key) ? number(key) : otherwise; }
  bool flag(const char* key, bool otherwise) const {
    const auto it = params_.find(key);
    return it != params_.end() && it->is_boolean() ? it->get<bool>() : otherwise;
  }
  std::vector<float> list(const char* key, int64_t length) const {
    const auto it = params_.find(key);
    std::vector<float> values;
    if (it != params_.end() && it->is_array()) {
      for (const Json& value : *it) values.push_back(value.is_number() ? value.get<float>() : 0.0f);
    }
    check_factors(values, key, length);
    return values;
  }
  void check_factors(const std::vector<float>& values, const char* name, int64_t length) const {
    bool good = static_cast<int64_t>(values.size()) == length;
    for (const float v : values) good = good && std::isfinite(v) && v > 0;
    if (!good) {
      fail(ErrorKind::kCorrupt, "{}: \"{}\" of the rope configuration must hold {} positive numbers", where_, name,
           length);
    }
  }

 private:
  const Json& params_;
  std::string where_;
};

float yarn_mscale(float factor, float mscale) { return factor <= 1 ? 1.0f : 0.1f * mscale * std::log(factor) + 1.0f; }

float yarn_attention_factor(const RopeConfig& config, float factor) {
  if (config.has("attention_factor")) return config.number("attention_factor");
  const float mscale = config.number("mscale", 0);
  const float all_dim = config.number("mscale_all_dim", 0);
  if (mscale != 0 && all_dim != 0) return yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim);
  return yarn_mscale(factor, 1);
}

float longrope_attention_factor(float factor, int64_t original) {
  if (factor <= 1) return 1;
  return static_cast<float>(
      std::sqrt(1 + std::log(static_cast<double>(factor)) / std::log(static_cast<double>(original))));
}

int64_t rotated_dims(int64_t head_dim, float fraction, const std::string& where) {
  const auto dims = static_cast<int64_t>(static_cast<float>(head_dim) * fraction);
  if (dims < 2 || dims > head_dim) {
    fail(ErrorKind::kCorrupt, "{}: a rotary embedding of {} of {} dimensions a head makes no sense", where, dims,
         head_dim);
  }
  return dims;
}

}  // namespace

RopeSpec Meta::rope(int64_t head_dim, std::string_view layer_type) const {
  RopeSpec spec = gguf() ? rope_gguf(head_dim, layer_type) : rope_hf(head_dim, layer_type);
  const bool scaled = spec.kind != RopeSpec::Kind::kDefault && spec.kind != RopeSpec::Kind::kFactors;
  if (!(spec.theta > 1) || (scaled && !(spec.factor > 0))) {
    fail(ErrorKind::kCorrupt, "{}: rope base {} and factor {} are out of range", checkpoint_.path(), spec.theta,
         spec.factor);
  }
  return spec;
}

RopeSpec Meta::rope_hf(int64_t head_dim, std::string_view layer_type) const {
  using Kind = RopeSpec::Kind;
  static const Json kEmpty = Json::object();
  const Json* params = find("rope_parameters");
  RopeSpec spec;
  spec.theta = number("rope_theta", spec.theta);
  if (params != nullptr && params->is_object()) {  // newer form: flat, or one object a layer type
    if (const auto it = params->find(layer_type); it != params->end() && it->is_object()) params = &*it;
  } else if (layer_type == "sliding_attention" && has("rope_local_base_freq")) {  // older form of alternating windows
    spec.theta = number("rope_local_base_freq");
    params = &kEmpty;
  } else {
    params = find("rope_scaling");
  }
  const RopeConfig config(params != nullptr && params->is_object() ? *params : kEmpty, checkpoint_.path());
  spec.theta = config.number("rope_theta", spec.theta);
  const std::string kind = config.kind();
  const float fraction = config.number("partial_rotary_factor", number("partial_rotary_factor", 1));
  const bool still = kind == "proportional";  // the rest of a head is rotated too, by nothing
  spec.rot_dim = rotated_dims(head_dim, still ? 1 : fraction, checkpoint_.path());
  if (spec.rot_dim % 2 != 0) spec.denominator = spec.rot_dim++;  // an odd count is rounded up where pairs are made
  if (still) spec.turning = static_cast<int64_t>(fraction * static_cast<float>(head_dim) / 2);
  spec.kind = Kind::kDefault;

  const int64_t trained = integer("max_position_embeddings");
  const auto original =
      static_cast<int64_t>(config.number("original_max_position_embeddings", static_cast<float>(trained)));
  if (kind == "default" || still) return spec;
  if (kind == "linear") {
    spec.kind = Kind::kLinear;
    spec.factor = config.number("factor");
  } else if (kind == "dynamic") {
    spec.kind = Kind::kDynamic;
    spec.factor = config.number("factor");
    spec.original_length = trained;
  } else if (kind == "yarn") {
    spec.kind = Kind::kYarn;
    spec.original_length = integer("original_max_position_embeddings", original);
    spec.factor = config.number("factor", static_cast<float>(trained) / static_cast<float>(spec.original_length));
    spec.beta_fast = config.number("beta_fast", spec.beta_fast);
    spec.beta_slow = config.number("beta_slow", spec.beta_slow);
    spec.truncate = config.flag("truncate", true);
    spec.attention_factor = yarn_attention_factor(config, spec.factor);
  } else if (kind == "llama3") {
    spec.kind = Kind::kLlama3;
    spec.original_length = original;
    spec.factor = config.number("factor");
    spec.low_freq_factor = config.number("low_freq_factor");
    spec.high_freq_factor = config.number("high_freq_factor");
  } else if (kind == "longrope" || kind == "su") {
    spec.kind = Kind::kFactors;
    spec.original_length = integer("original_max_position_embeddings", original);
    spec.factors = config.list(context() > spec.original_length ? "long_factor" : "short_factor", spec.rot_dim / 2);
    const float factor =
        config.number("factor", static_cast<float>(trained) / static_cast<float>(spec.original_length));
    spec.attention_factor = config.number("attention_factor", longrope_attention_factor(factor, spec.original_length));
  } else {
    fail(ErrorKind::kUnsupported, "{}: rope type \"{}\" is not known", checkpoint_.path(), kind);
  }
  return spec;
}

RopeSpec Meta::rope_gguf(int64_t head_dim, std::string_view layer_type) const {
  using Kind = RopeSpec::Kind;
  RopeSpec spec;
  spec.kind = Kind::kDefault;
  spec.rot_dim = integer("rope_dim", head_dim);
  if (spec.rot_dim < 2 || spec.rot_dim > head_dim || spec.rot_dim % 2 != 0) wrong("rope_dim", "even, at most a head");
  if (layer_type == "sliding_attention") {
    spec.theta = number("rope_local_base_freq", spec.theta);
    return spec;
  }
  spec.theta = number("rope_theta", spec.theta);

  const int64_t trained = integer("max_position_embeddings");
  const int64_t original = integer("original_max_position_embeddings", trained);
  const auto factors = [&](const char* name) {
    const SourceTensor* tensor = checkpoint_.find(name);
    std::vector<float> values;
    if (tensor == nullptr) return values;
    values.resize(static_cast<size_t>(tensor->shape.elements()));
    dequantize_row(tensor->format, tensor->bytes.data(), tensor->shape.elements(), values.data());
    RopeConfig(root_, checkpoint_.path()).check_factors(values, name, spec.rot_dim / 2);
    return values;
  };
  spec.factors = factors(context() > original ? "rope_factors_long.weight" : "rope_factors_short.weight");
  if (spec.factors.empty()) spec.factors = factors("rope_freqs.weight");
  const std::string kind = text("rope_scaling_type", "none");
  if (!spec.factors.empty()) {
    spec.kind = Kind::kFactors;
    spec.original_length = original;
    spec.attention_factor = number("rope_attention_factor", 1);
  } else if (kind == "linear" || has("rope_scale_linear")) {
    spec.kind = Kind::kLinear;
    spec.factor = has("rope_scaling_factor") ? number("rope_scaling_factor") : number("rope_scale_linear");
  } else if (kind == "yarn") {
    spec.kind = Kind::kYarn;
    spec.original_length = original;
    spec.factor = number("rope_scaling_factor");
    spec.beta_fast = number("rope_beta_fast", spec.beta_fast);
    spec.beta_slow = number("rope_beta_slow", spec.beta_slow);
    spec.attention_factor = yarn_mscale(spec.factor, 1) * number("rope_attention_factor", 1);
  } else if (kind != "none" && kind != "longrope") {
    fail(ErrorKind::kUnsupported, "{}: rope scaling \"{}\" is not known", checkpoint_.path(), kind);
  }
  return spec;
}

}  // namespace baize
