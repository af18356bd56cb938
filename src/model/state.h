// StateNeed: all the engine learns of a model's cached state. An attention block has one or more; equal needs form a
// cache group, whose states share pages and a block table. kv_view turns a piece of page memory back into the typed
// view that the ops read. A state of fixed size (kFixed: recurrences) has one page a sequence, read and written in
// place by every step: it is that of the last computed token and no other. Plain data; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "model/spec.h"
#include "ops/ops.h"

namespace baize {

struct StateNeed {
  enum class Kind : uint8_t { kPerToken, kWindow, kFixed };
  Kind kind = Kind::kPerToken;
  int64_t bytes = 0;   // a token; kFixed: a sequence
  int64_t window = 0;  // kWindow: tokens that may still be read, the newest included
  int64_t stride = 1;  // `bytes` are of so many tokens; kept where the last of them is

  /// Bytes of a page of `block` tokens: of all that can end in it.
  int64_t page_bytes(int64_t block) const { return bytes * ((block + stride - 1) / stride); }
  friend bool operator==(const StateNeed&, const StateNeed&) = default;
};

/// One need a state, in layer order.
std::vector<StateNeed> state_needs(const ModelSpec& spec, const Precision& precision);

/// Where one state lives: page_bytes(block) bytes in each of `pages` pages, the first at `base`.
struct StatePlace {
  void* base = nullptr;
  Place place;
  int64_t pages = 0;
  int64_t page_stride = 0;  // bytes from one page to the next
  int64_t block = 0;        // tokens a page
  int group = 0;
  int64_t column = 0;  // kFixed: the entry of a block table row that names the page of this state
};

/// Views of every state, in the order of state_needs. In a page, a state holds all keys, then all values, each
/// head-major: [kv_heads][block][head_dim].
std::vector<KvView> kv_views(const ModelSpec& spec, const Precision& precision, std::span<const StatePlace> places);

}  // namespace baize
