#include "formats/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <system_error>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/byte_reader.h"
#include "formats/dummy_weights.h"
#include "formats/fp8.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

namespace baize {

namespace fs = std::filesystem;

Checkpoint::Checkpoint(Kind kind, std::string path)
    : kind_(kind),
      path_(std::move(path)),
      metadata_(std::make_unique<Json>(Json::object())),
      generation_config_(std::make_unique<Json>(Json::object())) {}

Checkpoint::~Checkpoint() = default;

const SourceTensor* Checkpoint::find(std::string_view name) const {
  if (const auto it = index_.find(name); it != index_.end()) return &tensors_[it->second];
  if (const auto it = unsupported_.find(std::string(name)); it != unsupported_.end()) {
    fail(ErrorKind::kUnsupported,
         "{}: tensor {} has {}, which Baize does not compute with; it reads F32, F16, BF16 and F8_E4M3", path_,
         in_quotes(name), it->second);
  }
  return nullptr;
}

const SourceTensor* Checkpoint::find_integers(std::string_view name) const {
  const auto it = integers_.find(std::string(name));
  return it == integers_.end() ? nullptr : &it->second;
}

// Fills one Checkpoint. The functions below decide what is opened; this keeps the list and its index consistent.
struct CheckpointBuilder {
  std::shared_ptr<Checkpoint> out;

  CheckpointBuilder(Checkpoint::Kind kind, const std::string& path) : out(new Checkpoint(kind, path)) {}

  void set_metadata(Json value) { *out->metadata_ = std::move(value); }
  void set_generation_config(Json value) { *out->generation_config_ = std::move(value); }
  void make_dummies(const std::string& mix) { out->dummy_ = std::make_unique<DummyWeights>(mix); }
  void set_gguf(std::shared_ptr<const GgufFile> file) { out->gguf_ = std::move(file); }
  void add(SourceTensor tensor) { out->tensors_.push_back(std::move(tensor)); }
  void add_integers(SourceTensor tensor) {
    const std::string name = tensor.name;
    out->integers_.emplace(name, std::move(tensor));
  }
  void add_fp8(SourceTensor tensor) { fp8_.push_back(std::move(tensor)); }
  /// When all files were read: weights and scales may lie in different ones.
  void join_fp8() {
    for (SourceTensor& tensor : baize::join_fp8(*out->metadata_, out->path_, std::move(fp8_), out->tensors_)) {
      out->tensors_.push_back(std::move(tensor));
    }
  }
  void add(UnsupportedTensor tensor) { out->unsupported_.emplace(std::move(tensor.name), std::move(tensor.what)); }

  std::shared_ptr<const Checkpoint> finish() {
    out->index_.reserve(out->tensors_.size());
    for (size_t i = 0; i < out->tensors_.size(); ++i) {
      const auto [it, added] = out->index_.emplace(out->tensors_[i].name, i);
      if (added) continue;
      fail(ErrorKind::kCorrupt, "the tensor {} is both in {} and in {}", in_quotes(it->first),
           out->tensors_[it->second].file->path(), out->tensors_[i].file->path());
    }
    return out;
  }

 private:
  std::vector<SourceTensor> fp8_;
};

namespace {

bool is_there(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none)
    fail(ErrorKind::kIo, "cannot look at {}: {}", path.string(), error.message());
  return fs::exists(status);
}

// ---- GGUF -------------------------------------------------------------------------------------------------------

constexpr std::string_view kGgufExtension = ".gguf";

struct SplitName {
  std::string stem;  // "model" of model-00001-of-00003.gguf
  int part, count;   // part counts from 1

  std::string part_path(int number) const {
    return fmt::format("{}-{:05}-of-{:05}{}", stem, number, count, kGgufExtension);
  }
};

std::optional<SplitName> parse_split_name(std::string_view path) {
  constexpr size_t kDigits = 5;
  constexpr std::string_view kOf = "-of-";
  if (!path.ends_with(kGgufExtension)) return std::nullopt;
  path.remove_suffix(kGgufExtension.size());
  constexpr size_t kTail = 1 + kDigits + kOf.size() + kDigits;
  if (path.size() <= kTail) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kTail);
  const std::string_view part = tail.substr(1, kDigits), count = tail.substr(kTail - kDigits);
  const auto digits = [](std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  };
  if (tail[0] != '-' || tail.substr(1 + kDigits, kOf.size()) != kOf || !digits(part) || !digits(count)) {
    return std::nullopt;
  }
  return SplitName{std::string(path.substr(0, path.size() - kTail)), std::stoi(std::string(part)),
                   std::stoi(std::string(count))};
}

// A non-negative whole number of the metadata, or `fallback` when the key is absent.
int64_t count_value(const GgufFile& file, const char* key, int64_t fallback) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end()) return fallback;
  const bool whole = it->is_number_integer() && (it->is_number_unsigned() || it->get<int64_t>() >= 0);
  if (!whole || it->get<uint64_t>() > 99'999'999) {
    fail(ErrorKind::kCorrupt, "{}: {} is {}, which is no count", file.path(), key, it->dump(-1, ' ', true));
  }
  return it->get<int64_t>();
}

// The other parts of the split set that `first` begins.
std::vector<std::shared_ptr<const GgufFile>> open_parts(const GgufFile& first, int64_t count) {
  const std::string& path = first.path();
  const int64_t number = count_value(first, "split.no", 0);
  const auto name = parse_split_name(path);
  if (number != 0) {
    fail(ErrorKind::kInvalidArgument, "{} is part {} of a model split into {} files; give the first one{}", path,
         number + 1, count, name ? ": " + name->part_path(1) : std::string());
  }
  if (!name || name->part != 1 || name->count != count) {
    fail(ErrorKind::kInvalidArgument,
         "{} is the first part of a model split into {} files; its name must end in -00001-of-{:05}.gguf so that the "
         "others are found",
         path, count, count);
  }
  std::string missing;
  for (int i = 2; i <= count; ++i) {
    if (!is_there(name->part_path(i))) missing += (missing.empty() ? "" : ", ") + name->part_path(i);
  }
  if (!missing.empty()) fail(ErrorKind::kNotFound, "{} needs files that are missing: {}", path, missing);
  std::vector<std::shared_ptr<const GgufFile>> parts;
  for (int i = 2; i <= count; ++i) {
    parts.push_back(GgufFile::open(name->part_path(i)));
    const GgufFile& part = *parts.back();
    if (count_value(part, "split.no", -1) != i - 1 || count_value(part, "split.count", -1) != count) {
      fail(ErrorKind::kCorrupt, "{} says that it is not part {} of {}: the files are of different models or renamed",
           part.path(), i, count);
    }
  }
  return parts;
}

std::shared_ptr<const Checkpoint> open_gguf(const std::string& path) {
  CheckpointBuilder builder(Checkpoint::Kind::kGguf, path);
  const auto first = GgufFile::open(path);
  const int64_t count = count_value(*first, "split.count", 1);
  std::vector<std::shared_ptr<const GgufFile>> parts;
  if (count > 1) parts = open_parts(*first, count);
  parts.insert(parts.begin(), first);
  int64_t n_tensors = 0;
  for (const auto& part : parts) {
    for (const SourceTensor& tensor : part->tensors()) builder.add(tensor);
    n_tensors += static_cast<int64_t>(part->tensors().size());
  }
  if (const int64_t announced = count_value(*first, "split.tensors.count", n_tensors); announced != n_tensors) {
    fail(ErrorKind::kCorrupt, "{} announces {} tensors over all parts, but they hold {}", path, announced, n_tensors);
  }
  builder.set_metadata(first->metadata());
  builder.set_gguf(first);
  return builder.finish();
}

// ---- Hugging Face folder ----------------------------------------------------------------------------------------

Json read_json_object(const fs::path& path) {
  Json value = parse_json(read_file(path.string()), path.string());
  if (!value.is_object()) fail(ErrorKind::kCorrupt, "{} must hold a JSON object", path.string());
  return value;
}

// Sorted names of the files in `folder` that end in one of `extensions`.
std::vector<std::string> files_with(const fs::path& folder, std::initializer_list<std::string_view> extensions) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string extension = it->path().extension().string();
    if (std::ranges::find(extensions, extension) != extensions.end()) names.push_back(it->path().filename().string());
  }
  if (error) fail(ErrorKind::kIo, "cannot list {}: {}", folder.string(), error.message());
  std::ranges::sort(names);
  return names;
}

[[noreturn]] void fail_no_config(const fs::path& folder) {
  const auto ggufs = files_with(folder, {kGgufExtension});
  if (!ggufs.empty()) {
    fail(ErrorKind::kInvalidArgument, "{} is a folder with GGUF files; give the file, for example {}", folder.string(),
         (folder / ggufs.front()).string());
  }
  fail(ErrorKind::kNotFound, "{} has no config.json: a model folder needs config.json and model.safetensors",
       folder.string());
}

[[noreturn]] void fail_no_weights(const fs::path& folder) {
  const auto pickles = files_with(folder, {".bin", ".pt", ".pth", ".ckpt"});
  if (!pickles.empty()) {
    fail(ErrorKind::kUnsupported,
         "{} has weights only in pickled files ({}), which Baize does not read; convert them to safetensors",
         folder.string(), pickles.front());
  }
  const auto others = files_with(folder, {".safetensors"});
  fail(ErrorKind::kNotFound, "{} has no weights: neither model.safetensors nor model.safetensors.index.json{}",
       folder.string(), others.empty() ? "" : fmt::format(" (it has {})", fmt::join(others, ", ")));
}

using WeightMap = std::map<std::string, std::string>;  // tensor -> shard

WeightMap read_index(const fs::path& folder, const fs::path& index) {
  const Json json = read_json_object(index);
  const auto it = json.find("weight_map");
  if (it == json.end() || !it->is_object() || it->empty()) {
    fail(ErrorKind::kCorrupt, "{} has no \"weight_map\"", index.string());
  }
  WeightMap map;
  std::set<std::string> missing;
  for (const auto& [tensor, shard] : it->items()) {
    // A shard is a file of this folder: a path could lead anywhere.
    const std::string file = shard.is_string() ? shard.get<std::string>() : std::string();
    if (file.empty() || file.find('/') != std::string::npos || file.find('\0') != std::string::npos || file == "..") {
      fail(ErrorKind::kCorrupt, "{} maps {} to {}, which is no file name", index.string(), in_quotes(tensor),
           shard.dump(-1, ' ', true));
    }
    if (!is_there(folder / file)) missing.insert(file);
    map.emplace(tensor, file);
  }
  if (!missing.empty()) {
    fail(ErrorKind::kNotFound, "{} lacks weight files that its index names: {}", folder.string(),
         fmt::join(missing, ", "));
  }
  return map;
}

void add_shard(CheckpointBuilder& builder, const fs::path& path, WeightMap& unseen, const WeightMap& map) {
  SafetensorsContent content = read_safetensors(MappedFile::open(path.string()));
  const auto check = [&](const std::string& name) {
    unseen.erase(name);
    const auto it = map.find(name);
    // A tensor that the index does not list is taken as it is found; one listed elsewhere shows two mixed versions.
    if (it == map.end() || it->second == path.filename()) return;
    fail(ErrorKind::kCorrupt, "{} holds the tensor {}, which the index places in {}: the files do not belong together",
         path.string(), in_quotes(name), it->second);
  };
  for (SourceTensor& tensor : content.tensors) {
    check(tensor.name);
    builder.add(std::move(tensor));
  }
  for (SourceTensor& tensor : content.fp8) {
    check(tensor.name);
    builder.add_fp8(std::move(tensor));
  }
  for (SourceTensor& tensor : content.integers) builder.add_integers(std::move(tensor));
  for (UnsupportedTensor& tensor : content.unsupported) {
    check(tensor.name);
    builder.add(std::move(tensor));
  }
}

void add_shards(CheckpointBuilder& builder, const fs::path& folder, const fs::path& index) {
  const WeightMap map = read_index(folder, index);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map) shards.insert(shard);
  WeightMap unseen = map;
  for (const std::string& shard : shards) add_shard(builder, folder / shard, unseen, map);
  if (unseen.empty()) return;
  fail(ErrorKind::kCorrupt,
       "{} places the tensor {} in {}, which does not hold it ({} such): the files do not belong together",
       index.string(), in_quotes(unseen.begin()->first), unseen.begin()->second, unseen.size());
}

void read_configuration(CheckpointBuilder& builder, const fs::path& folder) {
  if (!is_there(folder / "config.json")) fail_no_config(folder);
  builder.set_metadata(read_json_object(folder / "config.json"));
  if (const auto file = folder / "generation_config.json"; is_there(file)) {
    builder.set_generation_config(read_json_object(file));
  }
}

std::shared_ptr<const Checkpoint> open_folder(const std::string& path) {
  const fs::path folder(path);
  CheckpointBuilder builder(Checkpoint::Kind::kHuggingFace, path);
  read_configuration(builder, folder);
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (is_there(single)) {
    WeightMap none;
    add_shard(builder, single, none, none);
  } else if (is_there(index)) {
    add_shards(builder, folder, index);
  } else {
    fail_no_weights(folder);
  }
  builder.join_fp8();
  return builder.finish();
}

}  // namespace

std::shared_ptr<const Checkpoint> open_checkpoint(const std::string& path) {
  if (!is_there(path)) fail(ErrorKind::kNotFound, "there is no file or folder {}", path);
  if (fs::is_directory(path)) return open_folder(path);
  if (path.ends_with(".safetensors")) {
    fail(ErrorKind::kInvalidArgument, "{} holds weights only; give the folder that has its config.json", path);
  }
  return open_gguf(path);
}

std::shared_ptr<const Checkpoint> open_configuration(const std::string& path, const std::string& mix) {
  if (!is_there(path)) fail(ErrorKind::kNotFound, "there is no file or folder {}", path);
  const bool folder = fs::is_directory(path);
  if (!folder && !path.ends_with(".json")) {
    fail(ErrorKind::kInvalidArgument,
         "{} is no configuration: dummy weights are made from a config.json or a folder with one", path);
  }
  CheckpointBuilder builder(Checkpoint::Kind::kHuggingFace, path);
  if (folder) {
    read_configuration(builder, path);
  } else {
    builder.set_metadata(read_json_object(path));
  }
  builder.make_dummies(mix);
  return builder.finish();
}

}  // namespace baize
