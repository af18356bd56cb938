// baize convert: a folder in the Hugging Face layout into one GGUF file.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <filesystem>
#include <memory>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "backend/cpu/cpu_backend.h"
#include "base/error.h"
#include "base/text.h"
#include "model/convert.h"
#include "model/family.h"
#include "text/gguf_export.h"

namespace baize::apps {

namespace {

struct ConvertArgs {
  std::string folder, out, type = "f16";
  int threads = 0;
  bool force = false, no_tokenizer = false;
};

// The keys of the tokenizer; without one the file says so, as llama.cpp wants it said.
GgufValues tokenizer_values(const ConvertArgs& args, int64_t vocab) {
  const std::string stem = "tokenizer.ggml.";
  const bool has = std::filesystem::exists(std::filesystem::path(args.folder) / "tokenizer.json");
  if (args.no_tokenizer || !has) return {{stem + "model", std::string("no_vocab")}};
  ExportedVocab exported;
  try {
    exported = export_vocab(args.folder, vocab);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) throw;
    fail(ErrorKind::kUnsupported, "{}; --no-tokenizer writes the file without it", error.what());
  }
  GgufValues values = {
      {stem + "model", exported.model}, {stem + "pre", exported.pre}, {stem + "tokens", exported.tokens}};
  if (!exported.scores.empty()) values.emplace_back(stem + "scores", exported.scores);
  values.emplace_back(stem + "token_type", std::vector<int32_t>(exported.types.begin(), exported.types.end()));
  if (!exported.merges.empty()) values.emplace_back(stem + "merges", exported.merges);
  for (const auto& [name, id] : exported.ids) {
    if (id) values.emplace_back(fmt::format("{}{}_token_id", stem, name), static_cast<uint32_t>(*id));
  }
  values.emplace_back(stem + "add_bos_token", exported.add_bos);
  values.emplace_back(stem + "add_eos_token", exported.add_eos);
  if (exported.add_space_prefix) values.emplace_back(stem + "add_space_prefix", *exported.add_space_prefix);
  for (const auto& [name, text] : exported.chat_templates) {
    values.emplace_back("tokenizer.chat_template" + (name == "default" ? "" : "." + name), text);
  }
  return values;
}

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
    fmt::print("{} ({}) stored as {}: blocks of {}, as {} has them, do not divide the rows\n",
               count > 1 ? fmt::format("{} tensors", count) : "one tensor", each.tensor + (count > 1 ? ", ..." : ""),
               gguf_type_info(each.taken).name, wanted.block_elems, wanted.name);
  }
}

void run(const ConvertArgs& args) {
  const GgufMix& mix = find_mix(args.type);
  if (!std::filesystem::is_directory(args.folder)) {
    fail(std::filesystem::exists(args.folder) ? ErrorKind::kInvalidArgument : ErrorKind::kNotFound,
         "{} is no folder; convert takes one with config.json and safetensors", args.folder);
  }
  const std::shared_ptr<const Checkpoint> folder = open_checkpoint(args.folder);
  gguf_architecture(*folder);  // says at once what cannot be converted
  const std::unique_ptr<Backend> backend = make_cpu_backend(args.threads);
  ConvertOptions options{.out = args.out, .replace = args.force, .mix = mix, .title = {}, .tokenizer = {}};
  options.title = std::filesystem::weakly_canonical(args.folder).filename().string();
  options.tokenizer = tokenizer_values(args, make_spec(*folder).dims.vocab);
  interrupt::install();
  options.cancelled = interrupt::pending;
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
  command->add_flag("--no-tokenizer", args->no_tokenizer, "leave the folder's tokenizer out");
  command->add_flag("--force", args->force, "replace an existing file");
  command->callback([args] { run(*args); });
}

}  // namespace baize::apps
