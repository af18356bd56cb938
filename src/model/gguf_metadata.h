// A ModelSpec in the words of GGUF: the key-values of an architecture and the tables of rope factors that say what the
// spec computes; the other way round than Meta reads them. And the comparison of two specs that tells whether a file
// says the same as the checkpoint that it is made of. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/gguf_writer.h"
#include "model/spec.h"

namespace baize {

/// How a file says which layers have windows: not at all (the architecture knows), by a period, by a flag a layer.
enum class WindowPattern : uint8_t { kNone, kPeriod, kFlags };

struct GgufKey {
  std::string name;  // below the architecture's: "attention.head_count"
  GgufValue value;
  std::string asked_as{};  // written only where the architecture's reader asks for this canonical key; empty: always
};

/// `context`: tokens that the checkpoint was trained for. Empty when no period describes the windows.
std::vector<GgufKey> gguf_keys(const ModelSpec& spec, int64_t context, WindowPattern pattern);

/// What each frequency is divided by, as far as scalar keys cannot say it: rope_freqs.weight, rope_factors_*.weight.
struct RopeTable {
  std::string name;
  std::vector<float> factors;  // [rot_dim / 2]
};
/// `near`, `far`: the spec for a context up to that before extension, and for the whole one.
std::vector<RopeTable> rope_tables(const ModelSpec& near, const ModelSpec& far);

/// The first thing that `file` computes in another way than `wanted`, as "layers.0.sub.0.attention.scale: 0.25 instead
/// of 0.125"; empty when there is none. How weights are stored (row orders, norms without their 1) does not count.
std::string first_difference(const ModelSpec& wanted, const ModelSpec& file);

}  // namespace baize
