// Any config.json is either read into a spec that passes its own checks and survives printing, or refused by one Error.
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/check.h"
#include "base/error.h"
#include "model/family.h"
#include "model/rope.h"
#include "model/state.h"

namespace {

// A checkpoint folder in memory with a weights file that holds no tensor; the configuration changes.
const std::string& folder() {
  static const std::string path = [] {
    const std::string made = "/dev/shm/baize_config_fuzz_" + std::to_string(getpid());
    std::filesystem::create_directories(made);
    std::ofstream weights(made + "/model.safetensors", std::ios::binary);
    const char header[] = {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    weights.write(header, sizeof(header));
    std::atexit([] { std::filesystem::remove_all("/dev/shm/baize_config_fuzz_" + std::to_string(getpid())); });
    return made;
  }();
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baize;
  std::ofstream(folder() + "/config.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const auto checkpoint = open_checkpoint(folder());
    const ModelSpec spec = make_spec(*checkpoint);
    BAIZE_CHECK(parse_spec(print_spec(spec)) == spec);
    for (const StateNeed& need : state_needs(spec, Precision())) BAIZE_CHECK(need.bytes > 0);
    if (const auto* attention = std::get_if<AttnSpec>(&spec.layers.front().sub.front().block)) {
      BAIZE_CHECK(static_cast<int64_t>(inverse_frequencies(attention->rope).size()) == attention->rope.rot_dim / 2);
    }
  } catch (const Error&) {
  }
  return 0;
}
