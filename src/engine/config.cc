#include "engine/config.h"

namespace baize {

namespace {

constexpr ConfigField kFields[] = {
    {.name = "backend",
     .help = "what computes: the best of this machine, the scalar reference, the processor, or an NVIDIA GPU",
     .text = &EngineConfig::backend,
     .choices = "auto|ref|cpu|cuda"},
    {.name = "compute",
     .help = "arithmetic: auto is fastest; f32 computes everything in 32-bit floats",
     .text = &EngineConfig::compute,
     .choices = "auto|f32"},
    {.name = "threads",
     .help = "processor threads; 0: one a physical core",
     .number = &EngineConfig::threads,
     .max = 1024},
    {.name = "ctx",
     .help = "context length in tokens; 0: the model's own, as far as memory allows",
     .number = &EngineConfig::ctx,
     .max = int64_t{1} << 24},
};

}  // namespace

std::span<const ConfigField> config_fields() { return kFields; }

}  // namespace baize
