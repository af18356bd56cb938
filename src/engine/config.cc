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
    {.name = "parallel",
     .help = "requests answered at the same time; others wait; 0: 64, on a GPU 256",
     .number = &EngineConfig::parallel,
     .max = 4096},
    {.name = "queue",
     .help = "requests that may wait; one more is refused; 0: 1024",
     .number = &EngineConfig::queue,
     .max = int64_t{1} << 24},
    {.name = "cache",
     .help =
         "tokens of cache that all requests share; 0: 512 for each of them (on a GPU 2048), as far as memory allows",
     .number = &EngineConfig::cache,
     .max = int64_t{1} << 32},
    {.name = "step",
     .help = "tokens computed at once, at most: more make long prompts faster and running answers wait longer; 0: 512, "
             "on a GPU what takes 20 ms, up to 2048",
     .number = &EngineConfig::step,
     .max = int64_t{1} << 20},
    {.name = "deterministic",
     .help = "answers of a seed never depend on what else is computed at the same time; slower",
     .flag = &EngineConfig::deterministic},
    {.name = "quantize",
     .help = "turn weights stored as f32, f16 or bf16 into fp8 while they are loaded, with a scale for each row; "
             "embedding, head, norms and routers stay as they are",
     .text = &EngineConfig::quantize,
     .choices = "none|fp8"},
};

}  // namespace

std::span<const ConfigField> config_fields() { return kFields; }

}  // namespace baize
