#include "engine/config.h"

#include <charconv>

#include "base/error.h"
#include "model/dummy_tensors.h"

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
    {.name = "load",
     .help = "weights: as the model stores them, or random ones, for which the model's config.json is enough",
     .text = &EngineConfig::load,
     .choices = "auto|dummy"},
    {.name = "dummy_format",
     .help = "what random matrices are stored as; q4_k_m mixes Q4_K and Q6_K as usual",
     .text = &EngineConfig::dummy_format,
     .choices = kDummyFormats},
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
    {.name = "gpu_memory",
     .help =
         "of the GPU's memory, at most: per cent of all of it, or bytes, such as 80% or 60GiB; default: what is free",
     .text = &EngineConfig::gpu_memory},
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

int64_t parse_memory(const std::string& text, int64_t total) {
  struct Unit {
    std::string_view name;
    double bytes;
  };
  const Unit units[] = {{"%", static_cast<double>(total) / 100},
                        {"", 1},
                        {"B", 1},
                        {"KiB", 0x1p10},
                        {"MiB", 0x1p20},
                        {"GiB", 0x1p30},
                        {"TiB", 0x1p40},
                        {"kB", 1e3},
                        {"MB", 1e6},
                        {"GB", 1e9},
                        {"TB", 1e12},
                        {"K", 0x1p10},
                        {"M", 0x1p20},
                        {"G", 0x1p30},
                        {"T", 0x1p40}};
  double count = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, count);
  if (read.ec == std::errc() && count > 0) {
    for (const Unit& unit : units) {
      const double bytes = count * unit.bytes;
      if (std::string_view(read.ptr, static_cast<size_t>(end - read.ptr)) != unit.name || bytes >= 0x1p62) continue;
      if (unit.name == "%" && count > 100) break;
      return static_cast<int64_t>(bytes);
    }
  }
  fail(ErrorKind::kInvalidArgument, "--gpu-memory takes per cent or bytes, such as 80% or 60GiB, not \"{}\"", text);
}

}  // namespace baize
