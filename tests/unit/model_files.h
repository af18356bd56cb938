// Byte-exact writers of GGUF and safetensors files for tests: every field can be set to something wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace baize::test {

/// Little-endian bytes of a number.
template <typename T>
std::string raw(T value) {
  static_assert(std::is_arithmetic_v<T>);
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

/// A string as GGUF writes it.
inline std::string gguf_string(std::string_view text) { return raw<uint64_t>(text.size()) + std::string(text); }

/// The code of T as a GGUF value type.
template <typename T>
constexpr uint32_t gguf_code() {
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, double>) return 12;
  if constexpr (sizeof(T) == 8) return std::is_signed_v<T> ? 11 : 10;
  return (sizeof(T) == 4 ? 4u : sizeof(T) == 2 ? 2u : 0u) + (std::is_signed_v<T> ? 1u : 0u);
}

struct GgufBuilder {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;  // innermost first, as in the file
    uint32_t type;
    uint64_t offset;
    std::string data;
  };

  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;  // of the layout; add general.alignment yourself
  std::vector<std::string> values;
  std::vector<Tensor> tensors;
  int64_t extra_values = 0, extra_tensors = 0;  // lies in the counts of the header

  /// A key-value from its raw parts.
  GgufBuilder& value(std::string_view key, uint32_t type, std::string_view bytes) {
    values.push_back(gguf_string(key) + raw(type) + std::string(bytes));
    return *this;
  }
  template <typename T>
    requires std::is_arithmetic_v<T>
  GgufBuilder& set(std::string_view key, T number) {
    return value(key, gguf_code<T>(), raw(number));
  }
  GgufBuilder& set(std::string_view key, std::string_view text) { return value(key, 8, gguf_string(text)); }
  GgufBuilder& set(std::string_view key, const char* text) { return set(key, std::string_view(text)); }
  template <typename T>
  GgufBuilder& set(std::string_view key, const std::vector<T>& list) {
    std::string bytes = raw(gguf_code<T>()) + raw<uint64_t>(list.size());
    for (const T item : list) bytes += raw<T>(item);
    return value(key, 9, bytes);
  }
  GgufBuilder& set(std::string_view key, const std::vector<std::string>& list) {
    std::string bytes = raw<uint32_t>(8) + raw<uint64_t>(list.size());
    for (const std::string& item : list) bytes += gguf_string(item);
    return value(key, 9, bytes);
  }

  /// A tensor after those added before it, aligned.
  GgufBuilder& tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, std::string_view data) {
    uint64_t offset = 0;
    if (!tensors.empty()) offset = align(tensors.back().offset + tensors.back().data.size());
    tensors.push_back({std::string(name), std::move(dims), type, offset, std::string(data)});
    return *this;
  }

  std::string bytes() const {
    std::string out = magic + raw(version) + raw<uint64_t>(tensors.size() + static_cast<uint64_t>(extra_tensors)) +
                      raw<uint64_t>(values.size() + static_cast<uint64_t>(extra_values));
    for (const std::string& v : values) out += v;
    for (const Tensor& t : tensors) {
      out += gguf_string(t.name) + raw(static_cast<uint32_t>(t.dims.size()));
      for (const uint64_t d : t.dims) out += raw(d);
      out += raw(t.type) + raw(t.offset);
    }
    out.resize(align(out.size()));
    const size_t start = out.size();
    for (const Tensor& t : tensors) {
      if (t.data.empty()) continue;
      out.resize(std::max<size_t>(out.size(), start + t.offset));
      out.replace(start + t.offset, t.data.size(), t.data);
    }
    return out;
  }

 private:
  uint64_t align(uint64_t position) const { return (position + alignment - 1) / alignment * alignment; }
};

/// A safetensors file: the header's length, the header and the data.
inline std::string safetensors_file(std::string_view header, std::string_view data) {
  return raw<uint64_t>(header.size()) + std::string(header) + std::string(data);
}

}  // namespace baize::test
