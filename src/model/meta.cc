#include "model/meta.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/names.h"

namespace baize {

namespace {

constexpr int64_t kMaxInteger = int64_t{1} << 40;

std::vector<std::string> read_architectures(const Checkpoint& checkpoint) {
  const Json& meta = checkpoint.metadata();
  std::vector<std::string> names;
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    const auto it = meta.find("general.architecture");
    if (it != meta.end() && it->is_string()) names.push_back(it->get<std::string>());
  } else if (const auto it = meta.find("architectures"); it != meta.end() && it->is_array()) {
    for (const Json& name : *it) {
      if (name.is_string()) names.push_back(name.get<std::string>());
    }
  }
  if (names.empty()) {
    fail(ErrorKind::kCorrupt,
         "{}: the metadata names no architecture (\"architectures\" in config.json, "
         "\"general.architecture\" in GGUF)",
         checkpoint.path());
  }
  return names;
}

}  // namespace

Meta::Meta(const Checkpoint& checkpoint, int64_t context)
    : checkpoint_(checkpoint),
      root_(checkpoint.metadata()),
      context_(context),
      architectures_(read_architectures(checkpoint)) {
  // Checkpoints with vision or audio towers keep the decoder's configuration one level down.
  if (const auto it = root_.find("text_config"); !gguf() && it != root_.end() && it->is_object()) {
    Json inner = std::move(*it);
    root_ = std::move(inner);
  }
}

Meta Meta::with_defaults(const Json& values) const {
  Meta filled(*this);
  if (gguf()) return filled;
  for (const auto& [key, value] : values.items()) {
    if (!has(key)) filled.root_[key] = value;
  }
  return filled;
}

std::string Meta::spelled(std::string_view key) const {
  return gguf() ? fmt::format("{}.{}", architectures_.front(), gguf_key(key)) : std::string(key);
}

const Json* Meta::find(std::string_view key) const {
  if (asked_ != nullptr) asked_->emplace(key);
  if (gguf() && gguf_key(key).empty()) return nullptr;
  const auto at = [&](std::string_view name) -> const Json* {
    const auto it = root_.find(name);
    return it == root_.end() || it->is_null() ? nullptr : &*it;
  };
  if (const Json* value = at(spelled(key)); value != nullptr) return value;
  if (gguf()) {
    const std::string_view other = gguf_other_key(key);
    return other.empty() ? nullptr : at(fmt::format("{}.{}", architectures_.front(), other));
  }
  for (const std::string_view other : key_aliases(key)) {
    if (other.empty()) continue;
    if (const Json* value = at(other)) return value;
  }
  return nullptr;
}

void Meta::wrong(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  fail(ErrorKind::kCorrupt, "{}: \"{}\" {}; it must be {}", checkpoint_.path(), spelled(key),
       value == nullptr ? "is missing" : "is " + value->dump().substr(0, 60), expected);
}

bool Meta::has(std::string_view key) const { return find(key) != nullptr; }

bool Meta::has_own(std::string_view key) const {
  const auto it = root_.find(key);
  return it != root_.end() && !it->is_null();
}

int64_t Meta::integer(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && value->is_array() && !value->empty() &&
      std::all_of(value->begin(), value->end(), [&](const Json& each) { return each == value->front(); })) {
    value = &value->front();
  }
  if (value == nullptr || !value->is_number()) wrong(key, "a whole number");
  const double number = value->get<double>();
  if (number != std::floor(number) || number < 0 || number > static_cast<double>(kMaxInteger)) {
    wrong(key, "a whole number, not negative");
  }
  return static_cast<int64_t>(number);
}

int64_t Meta::integer(std::string_view key, int64_t otherwise) const { return has(key) ? integer(key) : otherwise; }

int64_t Meta::positive(std::string_view key) const {
  const int64_t value = integer(key);
  if (value == 0) wrong(key, "a whole number of at least 1");
  return value;
}

int64_t Meta::positive(std::string_view key, int64_t otherwise) const { return has(key) ? positive(key) : otherwise; }

float Meta::number(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_number() || !std::isfinite(value->get<float>())) wrong(key, "a finite number");
  return value->get<float>();
}

float Meta::number(std::string_view key, float otherwise) const { return has(key) ? number(key) : otherwise; }

bool Meta::flag(std::string_view key, bool otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

std::string Meta::text(std::string_view key, const std::string& otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) wrong(key, "a string");
  return value->get<std::string>();
}

int64_t Meta::entry(std::string_view key, int64_t index, int64_t otherwise) const {
  const Json* list = find(key);
  if (list == nullptr) return otherwise;
  if (!list->is_array()) return integer(key);
  if (index >= static_cast<int64_t>(list->size())) wrong(key, "a list with one entry a layer");
  const Json& value = (*list)[static_cast<size_t>(index)];
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (!value.is_number() || value.get<double>() < 0 || value.get<double>() > static_cast<double>(kMaxInteger)) {
    wrong(key, "a list of numbers");
  }
  return value.get<int64_t>();
}

float Meta::number_at(std::string_view key, int64_t index, float otherwise) const {
  const Json* list = find(key);
  if (list == nullptr) return otherwise;
  if (!list->is_array() || index >= static_cast<int64_t>(list->size())) wrong(key, "a list of numbers");
  const Json& value = (*list)[static_cast<size_t>(index)];
  if (value == Json{{"__float__", "Infinity"}})
    return std::numeric_limits<float>::infinity();  // as transformers writes it
  if (!value.is_number()) wrong(key, "a list of numbers");
  return value.get<float>();
}

std::string Meta::text_at(std::string_view key, int64_t index, const std::string& otherwise) const {
  const Json* list = find(key);
  if (list == nullptr || !list->is_array() || list->empty()) return otherwise;
  const Json& value = (*list)[static_cast<size_t>(index) % list->size()];
  if (!value.is_string()) wrong(key, "a list of strings");
  return value.get<std::string>();
}

int64_t Meta::count(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return 0;
  if (value->is_string()) return static_cast<int64_t>(value->get_ref<const std::string&>().size());
  return value->is_array() ? static_cast<int64_t>(value->size()) : 0;
}

bool Meta::lists(std::string_view key, int64_t value) const {
  const Json* list = find(key);
  return list != nullptr && list->is_array() && std::find(list->begin(), list->end(), Json(value)) != list->end();
}

bool Meta::norms_queries(std::string_view key) const {
  if (!gguf()) return flag(key, false);
  return checkpoint_.find(gguf_tensor_name(architectures_.front(), "attn.q_norm.weight", 0)) != nullptr;
}

Meta Meta::inner(std::string_view key) const {
  Meta meta(*this);
  const Json* value = find(key);
  if (value == nullptr || !value->is_object()) return meta;
  const Json copy = *value;
  for (const auto& [name, entry] : copy.items()) meta.root_[name] = entry;
  return meta;
}

int64_t Meta::layers() const {
  constexpr int64_t kMaxLayers = 4096;
  const int64_t layers = integer("num_hidden_layers");
  if (layers < 1 || layers > kMaxLayers) wrong("num_hidden_layers", fmt::format("between 1 and {}", kMaxLayers));
  return layers;
}

int64_t Meta::vocab() const {
  if (!gguf()) return integer("vocab_size");
  const Shape& table = TensorNames(checkpoint_).need("embed.weight").shape;
  return table.rank() == 2 ? table[0] : 0;
}

int64_t Meta::context() const { return context_ > 0 ? context_ : integer("max_position_embeddings"); }

std::string Meta::layer_type(int64_t layer, const std::string& otherwise) const {
  if (gguf()) return layer_type_gguf(layer, otherwise);
  const Json* list = find("layer_types");
  if (list == nullptr) return otherwise;
  if (!list->is_array() || static_cast<int64_t>(list->size()) < layers()) {
    wrong("layer_types", "a list with one entry a layer");
  }
  const Json& type = (*list)[static_cast<size_t>(layer)];
  if (type != "full_attention" && type != "sliding_attention") {
    fail(ErrorKind::kUnsupported, "{}: layer_types[{}] is {}; this family has full_attention and sliding_attention",
         checkpoint_.path(), layer, type.dump().substr(0, 60));
  }
  return type.get<std::string>();
}

std::string Meta::layer_type_gguf(int64_t layer, const std::string& otherwise) const {
  const Json* pattern = find("sliding_window_pattern");
  if (pattern == nullptr) return otherwise;
  bool slides = false;
  if (pattern->is_array()) {  // one flag a layer
    const bool fits = static_cast<int64_t>(pattern->size()) == layers();
    if (!fits || !(*pattern)[static_cast<size_t>(layer)].is_boolean())
      wrong("sliding_window_pattern", "a flag a layer");
    slides = (*pattern)[static_cast<size_t>(layer)].get<bool>();
  } else {  // a period, of which the last layer sees everything; 0: every layer slides
    const int64_t period = integer("sliding_window_pattern");
    slides = period == 0 || (layer + 1) % period != 0;
  }
  return slides ? "sliding_attention" : "full_attention";
}

Activation Meta::activation(std::string_view otherwise) const {
  struct Row {
    std::string_view name;
    Activation activation;
  };
  static constexpr Row kRows[] = {{"silu", Activation::kSilu},
                                  {"swish", Activation::kSilu},
                                  {"gelu", Activation::kGelu},
                                  {"gelu_pytorch_tanh", Activation::kGeluTanh},
                                  {"gelu_new", Activation::kGeluTanh},
                                  {"gelu_fast", Activation::kGeluTanh},
                                  {"relu", Activation::kRelu},
                                  {"relu2", Activation::kRelu2},
                                  {"quick_gelu", Activation::kGeluQuick},
                                  {"sigmoid", Activation::kSigmoid},
                                  {"tanh", Activation::kTanh},
                                  {"xielu", Activation::kXielu},
                                  {"linear", Activation::kIdentity}};
  const std::string name = text("hidden_activation", text("hidden_act", std::string(otherwise)));
  for (const Row& row : kRows) {
    if (row.name == name) return row.activation;
  }
  fail(ErrorKind::kUnsupported, "{}: activation \"{}\" is not known", checkpoint_.path(), name);
}

}  // namespace baize
