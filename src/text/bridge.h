// Bridge to the Rust crate: its owned buffers as C++ values, and its failures as errors. Only the sources of this layer
// include it. Any thread.
#pragma once

#include <baize_text.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace baize::bridge {

inline baize_text_view view(std::string_view text) { return {text.data(), text.size()}; }

/// A result or error message of the crate; freed when the scope ends.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { baize_text_buffer_free(raw_); }

  baize_text_buffer* out() { return &raw_; }
  std::string_view text() const { return {raw_.data, raw_.size}; }

 private:
  baize_text_buffer raw_{nullptr, 0};
};

/// Token ids of the crate; freed when the scope ends.
class Ids {
 public:
  Ids() = default;
  explicit Ids(baize_text_ids raw) : raw_(raw) {}
  Ids(const Ids&) = delete;
  Ids& operator=(const Ids&) = delete;
  ~Ids() { baize_text_ids_free(raw_); }

  baize_text_ids* out() { return &raw_; }
  std::vector<Token> copy() const { return {raw_.data, raw_.data + raw_.size}; }

 private:
  baize_text_ids raw_{nullptr, 0};
};

}  // namespace baize::bridge
