// baize convert: a folder in the Hugging Face layout into one GGUF file.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <filesystem>
#include <memory>

#include "apps/commands.h"
#include "backend/cpu/cpu_backend.h"
#include "base/error.h"
#include "base/text.h"
#include "model/convert.h"

namespace baize::apps {

namespace {

struct ConvertArgs {
  std::string folder, out, type = "f16";
  int threads = 0;
  bool force = false;
};

std::string types_text(const ConvertReport& report) {
  std::string text;
  for (const auto& [type, bytes] : report.by_type) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", gguf_type_info(type).name, human_bytes(bytes));
  }
  return text;
}

// One line for each type that could not be taken, with the first tensor.
void print_fallbacks(const ConvertReport& report) {
  for (size_t i = 0; i < report.fallbacks.size(); ++i) {
    const ConvertFallback& each = report.fallbacks[i];
    size_t count = 0;
    bool first = true;
    for (size_t j = 0; j < report.fallbacks.size(); ++j) {
      const ConvertFallback& other = report.fallbacks[j];
      if (other.wanted != each.wanted || other.taken != each.taken) continue;
      first = first && j >= i;
      ++count;
    }
    if (!first) continue;
    const GgufTypeInfo& wanted = gguf_type_info(each.wanted);
    fmt::print("{} tensors ({}{}) are stored as {}: blocks of {}, as {} has them, do not divide their rows\n", count,
               each.tensor, count > 1 ? ", ..." : "", gguf_type_info(each.taken).name, wanted.block_elems, wanted.name);
  }
}

void run(const ConvertArgs& args) {
  const GgufMix& mix = find_mix(args.type);
  if (!std::filesystem::is_directory(args.folder)) {
    fail(std::filesystem::exists(args.folder) ? ErrorKind::kInvalidArgument : ErrorKind::kNotFound,
         "{} is no folder; convert takes one with config.json and safetensors", args.folder);
  }
  const std::shared_ptr<const Checkpoint> folder = open_checkpoint(args.folder);
  const std::unique_ptr<Backend> backend = make_cpu_backend(args.threads);
  ConvertOptions options{.out = args.out, .replace = args.force, .mix = mix, .title = {}, .tokenizer = {}};
  options.title = std::filesystem::weakly_canonical(args.folder).filename().string();
  const ConvertReport report = convert_to_gguf(folder, *backend, options);
  print_fallbacks(report);
  fmt::print("{}: {} tensors of architecture {}, {} ({})\n", args.out, report.tensors, report.architecture,
             human_bytes(report.bytes), types_text(report));
}

}  // namespace

void add_convert_command(CLI::App& program) {
  CLI::App* command = program.add_subcommand("convert", "Write a model folder as a GGUF file, quantised if wanted");
  const auto args = std::make_shared<ConvertArgs>();
  command->add_option("folder", args->folder, "folder with config.json and safetensors")->required();
  command->add_option("out", args->out, "GGUF file to write")->required();
  command->add_option("--type", args->type, "weight type of the matrices: " + mix_names())->capture_default_str();
  command->add_option("--threads", args->threads, "threads that quantise (default: one a core)");
  command->add_flag("--force", args->force, "replace an existing file");
  command->callback([args] { run(*args); });
}

}  // namespace baize::apps
