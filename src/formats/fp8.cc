#include "formats/fp8.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "formats/byte_reader.h"

namespace baize {

namespace {

constexpr int kGroup = 128;  // weights of a row that share a scale, where not all do
constexpr std::array<std::string_view, 3> kMethods = {"fp8", "compressed-tensors", "fbgemm_fp8"};

void drop(const SourceTensor& tensor) {
  if (tensor.file != nullptr) tensor.file->drop_pages(tensor.bytes);
}

// Weights [stacks * n, k] and their scales, each scale for a block of `block_rows` rows of one stack.
class JoinedRows : public RowMaker {
 public:
  struct Scales {
    SourceTensor values;
    int64_t stacks, block_rows, columns;  // columns: scales side by side
  };

  JoinedRows(SourceTensor weights, Scales scales, QuantFormat format)
      : weights_(std::move(weights)), scales_(std::move(scales)), format_(format) {}

  void make(int64_t begin, int64_t end, std::byte* out) const override {
    const int64_t k = weights_.width(), row_bytes = format_.row_bytes(k), offset = QuantFormat::scales_offset(k);
    const int64_t n = weights_.row_count() / scales_.stacks;
    const int64_t blocks = (n + scales_.block_rows - 1) / scales_.block_rows;
    for (int64_t row = begin; row < end; ++row, out += row_bytes) {
      std::memset(out, 0, static_cast<size_t>(row_bytes));
      const std::byte* from = weights_.bytes.data() + row * k;
      std::memcpy(out, from, static_cast<size_t>(k));
      unsigned nan = 0;
      for (int64_t i = 0; i < k; ++i) nan |= static_cast<unsigned>((out[i] & std::byte{0x7f}) == std::byte{0x7f});
      if (nan != 0) fail(ErrorKind::kCorrupt, "{}: row {} of the weights holds a NaN", where(weights_), row);
      const int64_t first = (row / n * blocks + row % n / scales_.block_rows) * scales_.columns;
      for (int64_t g = 0; g < scales_.columns; ++g) {
        const float scale = value(first + g);
        if (!std::isfinite(scale)) {
          fail(ErrorKind::kCorrupt, "{}: scale {} is no finite number", where(scales_.values), first + g);
        }
        std::memcpy(out + offset + g * 4, &scale, sizeof(scale));
      }
    }
  }
  void done() const override {
    drop(weights_);
    drop(scales_.values);
  }

 private:
  static std::string where(const SourceTensor& tensor) {
    return fmt::format("{}: tensor {}", tensor.file == nullptr ? "weights" : tensor.file->path(), tensor.name);
  }
  float value(int64_t i) const {
    const SourceTensor& v = scales_.values;
    const std::byte* at = v.bytes.data() + i * dtype_bytes(v.format.elem);
    if (v.format.elem == DType::kF32) {
      float value;
      std::memcpy(&value, at, sizeof(value));
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, at, sizeof(bits));
    return v.format.elem == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
  }

  SourceTensor weights_;
  Scales scales_;
  QuantFormat format_;
};

// Rows of plain floats, quantised when they are asked for.
class QuantizedRows : public RowMaker {
 public:
  QuantizedRows(SourceTensor source, QuantFormat format) : source_(std::move(source)), format_(format) {}

  void make(int64_t begin, int64_t end, std::byte* out) const override {
    const int64_t k = source_.width(), row_bytes = format_.row_bytes(k);
    std::vector<std::byte> stored(static_cast<size_t>(source_.format.row_bytes(k)));
    std::vector<float> values(static_cast<size_t>(k));
    for (int64_t row = begin; row < end; ++row, out += row_bytes) {
      source_.read_rows(row, row + 1, stored.data());
      read_floats(stored.data(), values);
      float top = 0;
      for (const float v : values) top = std::isfinite(v) ? std::max(top, std::fabs(v)) : INFINITY;
      if (!std::isfinite(top)) {
        fail(ErrorKind::kCorrupt, "tensor {}: row {} holds a value that is no finite number", source_.name, row);
      }
      const float scale = top / kE4m3Max, inverse = scale > 0 ? 1 / scale : 0;
      std::memset(out, 0, static_cast<size_t>(row_bytes));
      for (int64_t i = 0; i < k; ++i) out[i] = std::byte{f32_to_e4m3(values[static_cast<size_t>(i)] * inverse)};
      std::memcpy(out + QuantFormat::scales_offset(k), &scale, sizeof(scale));
    }
  }
  void done() const override { drop(source_); }

 private:
  void read_floats(const std::byte* stored, std::vector<float>& values) const {
    if (source_.format.elem == DType::kF32) {
      std::memcpy(values.data(), stored, values.size() * sizeof(float));
      return;
    }
    const bool bf16 = source_.format.elem == DType::kBF16;
    for (size_t i = 0; i < values.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, stored + 2 * i, sizeof(bits));
      values[i] = bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
    }
  }

  SourceTensor source_;
  QuantFormat format_;
};

const Json* object_in(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_object() ? &*it : nullptr;
}

// The configuration of the quantiser, wherever writers put it.
const Json* quantization_config(const Json& config) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (const Json* found = object_in(config, key)) return found;
    if (const Json* text = object_in(config, "text_config")) {
      if (const Json* found = object_in(*text, key)) return found;
    }
  }
  return nullptr;
}

struct Block {
  int64_t rows = kGroup, columns = kGroup;
};

class Joiner {
 public:
  Joiner(const Json& config, const std::string& path, const std::vector<SourceTensor>& tensors)
      : path_(path), tensors_(tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) index_.emplace(tensors[i].name, i);
    read_config(config);
  }

  SourceTensor join(SourceTensor weights) {
    const SourceTensor* scales = find_scales(weights.name);
    if (scales == nullptr) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} is of type F8_E4M3, but there is no tensor {}_scale or {}_scale_inv",
           path_, weights.name, weights.name, weights.name);
    }
    taken_.insert(scales->name);
    if (weights.shape.rank() != 2 && weights.shape.rank() != 3) {
      fail(ErrorKind::kUnsupported,
           "{}: tensor {} of type F8_E4M3 has shape {}; Baize reads matrices and stacks of them", path_, weights.name,
           weights.shape.to_string());
    }
    QuantFormat format;
    const JoinedRows::Scales layout = fit(weights, *scales, format);
    SourceTensor joined = weights;
    joined.format = format;
    const int64_t rows = weights.row_count();
    const auto size = static_cast<size_t>(rows * format.row_bytes(weights.width()));
    joined.bytes = {static_cast<const std::byte*>(nullptr), size};
    joined.rows = std::make_shared<const JoinedRows>(std::move(weights), layout, format);
    return joined;
  }

  /// Scales that were used, and those of activations.
  bool drops(const std::string& name) const {
    constexpr std::array<std::string_view, 7> kActivations = {
        ".input_scale", ".activation_scale", ".input_scale_ub", ".output_scale", ".k_scale", ".v_scale", ".q_scale"};
    const auto ends = [&](std::string_view end) { return name.ends_with(end); };
    return taken_.contains(name) || std::ranges::any_of(kActivations, ends);
  }

 private:
  void read_config(const Json& config) {
    const Json* quantizer = quantization_config(config);
    if (quantizer == nullptr) {
      fail(
          ErrorKind::kUnsupported,
          "{} has weights of type F8_E4M3, but its config.json has no \"quantization_config\" that says what they mean",
          path_);
    }
    const auto method = quantizer->find("quant_method");
    // The first files of compressed-tensors, under "compression_config", do not name it.
    const std::string name = method == quantizer->end() ? std::string(kMethods[1])
                             : method->is_string()      ? method->get<std::string>()
                                                        : method->dump(-1, ' ', true);
    if (std::ranges::find(kMethods, name) == kMethods.end()) {
      fail(ErrorKind::kUnsupported, "{}: the weights are quantised by {}; of FP8 weights Baize reads those of {}",
           path_, in_quotes(name), fmt::join(kMethods, ", "));
    }
    read_block(*quantizer, "weight_block_size");
    if (const Json* groups = object_in(*quantizer, "config_groups")) {
      for (const auto& [key, group] : groups->items()) {
        if (!group.is_object()) continue;
        if (const Json* weights = object_in(group, "weights")) read_block(*weights, "block_structure");
      }
    }
  }

  void read_block(const Json& from, const char* key) {
    const auto it = from.find(key);
    if (it == from.end() || it->is_null()) return;
    const auto whole = [](const Json& v) { return v.is_number_unsigned() && v.get<uint64_t>() <= 1'000'000; };
    if (!it->is_array() || it->size() != 2 || !std::ranges::all_of(*it, whole) || (*it)[0] == 0) {
      fail(ErrorKind::kCorrupt, "{}: \"{}\" of the quantization_config is {}, which is no pair of sizes", path_, key,
           it->dump(-1, ' ', true));
    }
    block_ = {(*it)[0].get<int64_t>(), (*it)[1].get<int64_t>()};
    if (block_.columns != kGroup) {
      fail(ErrorKind::kUnsupported, "{}: blocks of {} x {} weights share a scale; Baize reads blocks that are {} wide",
           path_, block_.rows, block_.columns, kGroup);
    }
  }

  const SourceTensor* find_scales(const std::string& weights) const {
    for (const char* end : {"_scale", "_scale_inv"}) {
      if (const auto at = index_.find(weights + end); at != index_.end()) return &tensors_[at->second];
    }
    return nullptr;
  }

  // How the scales belong to the weights, by their number; and the format of the rows that both make.
  JoinedRows::Scales fit(const SourceTensor& weights, const SourceTensor& scales, QuantFormat& format) const {
    const int64_t stacks = weights.shape.rank() == 3 ? weights.shape[0] : 1, k = weights.width();
    const int64_t n = stacks > 0 ? weights.row_count() / stacks : 0, count = scales.shape.elements();
    const int64_t rows = (n + block_.rows - 1) / block_.rows, columns = (k + kGroup - 1) / kGroup;
    format = QuantFormat::fp8(0);
    const auto whole_matrix = [&](int64_t last) { return last == 1 || scales.shape.rank() == 1; };
    const int64_t last = scales.width();
    if (n > 0 && k > 0) {
      if (count == 1 && stacks == 1) return {scales, 1, n, 1};
      if (count == stacks && whole_matrix(last)) return {scales, stacks, n, 1};
      if (count == stacks * n && whole_matrix(last)) return {scales, stacks, 1, 1};
      if (count == stacks * rows * columns && last == columns) {
        format = QuantFormat::fp8(kGroup);
        return {scales, stacks, block_.rows, columns};
      }
    }
    fail(ErrorKind::kCorrupt,
         "{}: tensor {} has shape {}, which does not fit the weights {}: one scale, [{}, 1] or [{}, {}] was expected",
         path_, scales.name, scales.shape.to_string(), weights.shape.to_string(), n, rows, columns);
  }

  const std::string& path_;
  const std::vector<SourceTensor>& tensors_;
  std::unordered_map<std::string_view, size_t> index_;
  std::unordered_set<std::string> taken_;
  Block block_;
};

}  // namespace

std::vector<SourceTensor> join_fp8(const Json& config, const std::string& path, std::vector<SourceTensor> fp8,
                                   std::vector<SourceTensor>& tensors) {
  if (fp8.empty()) return fp8;
  Joiner joiner(config, path, tensors);
  std::vector<SourceTensor> joined;
  joined.reserve(fp8.size());
  for (SourceTensor& weights : fp8) joined.push_back(joiner.join(std::move(weights)));
  const auto is_static = [](const SourceTensor& t) {
    return t.name.ends_with(".input_scale") || t.name.ends_with(".activation_scale");
  };
  if (std::ranges::any_of(tensors, is_static)) {
    log::info("{}: the stored scales of activations are not used: activations are scaled by their own values", path);
  }
  std::vector<SourceTensor> rest;
  for (SourceTensor& tensor : tensors) {
    if (!joiner.drops(tensor.name)) rest.push_back(tensor);
  }
  tensors = std::move(rest);
  return joined;
}

SourceTensor quantized_to_fp8(const SourceTensor& source) {
  SourceTensor result = source;
  result.format = QuantFormat::fp8(0);
  const auto size = static_cast<size_t>(source.row_count() * result.format.row_bytes(source.width()));
  result.bytes = {static_cast<const std::byte*>(nullptr), size};
  result.rows = std::make_shared<const QuantizedRows>(source, result.format);
  result.first_row = 0;
  return result;
}

}  // namespace baize
