#include "model/convert.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "formats/quantize.h"
#include "model/family.h"
#include "model/gguf_plan.h"
#include "model/model.h"
#include "ops/dequant.h"

namespace baize {

namespace {

constexpr int64_t kChunkElements = int64_t{1} << 22;  // of one write

// ---- what the file says ------------------------------------------------------------------------------------------

// Tokens that the folder was trained for: its own number, not a stretched one.
int64_t trained_context(const Meta& meta, const ModelSpec& spec) {
  return meta.has("max_position_embeddings") ? meta.integer("max_position_embeddings") : spec.dims.context;
}

// The context before extension, where the rotation has factors of its own up to there; else `context`.
int64_t near_context(const ModelSpec& spec, int64_t context) {
  for (const LayerSpec& layer : spec.layers) {
    for (const Sublayer& sub : layer.sub) {
      const auto* a = std::get_if<AttnSpec>(&sub.block);
      const bool extended = a != nullptr && a->rope.kind == RopeSpec::Kind::kFactors && a->rope.original_length > 0;
      if (extended) return std::min(context, a->rope.original_length);
    }
  }
  return context;
}

class Conversion {
 public:
  Conversion(std::shared_ptr<const Checkpoint> folder, Backend& backend, const ConvertOptions& options)
      : folder_(std::move(folder)),
        backend_(backend),
        options_(options),
        architecture_(gguf_architecture(*folder_)),
        context_(trained_context(Meta(*folder_), make_spec(*folder_))),
        far_(make_spec(*folder_, context_)),
        near_(make_spec(*folder_, near_context(far_, context_))),
        plan_(architecture_, far_, found(), rope_tables(near_, far_)),
        writer_(options.out, options.replace) {}

  ConvertReport run() {
    ConvertReport report;
    report.architecture = architecture_;
    plan_.choose_types(options_.mix, report.fallbacks);
    plan_.settle(begin());
    for (size_t i = 0; i < plan_.tensors().size(); ++i) write(i);
    writer_.finish();
    report.tensors = std::ssize(plan_.tensors());
    report.bytes = writer_.file_bytes();
    std::map<GgufType, int64_t> by_type;
    for (const PlannedTensor& tensor : plan_.tensors()) by_type[tensor.info.type] += tensor.info.bytes();
    report.by_type.assign(by_type.begin(), by_type.end());
    return report;
  }

 private:
  std::vector<FoundTensor> found() const {
    std::vector<FoundTensor> list;
    bind(folder_, far_, backend_, {.compute = Compute::kExact, .dry = true, .found = &list});
    return list;
  }

  // `asked`: canonical keys that the architecture's reader looks for; null: all are written.
  GgufValues values(WindowPattern pattern, const std::set<std::string>* asked) const {
    GgufValues values = {{"general.architecture", architecture_},
                         {"general.name", options_.title},
                         {"general.file_type", options_.mix.file_type},
                         {"general.quantization_version", uint32_t{2}}};
    const std::vector<GgufKey> keys = gguf_keys(far_, context_, pattern);
    if (keys.empty()) return {};
    std::set<std::string_view> written;
    for (const GgufKey& key : keys) {
      if (!key.asked_as.empty() && asked != nullptr && !asked->contains(key.asked_as)) continue;
      if (written.insert(key.name).second) values.emplace_back(architecture_ + "." + key.name, key.value);
    }
    values.insert(values.end(), options_.tokenizer.begin(), options_.tokenizer.end());
    return values;
  }

  // The beginning of the file, with all that is needed to read its spec.
  void begin_with(const GgufValues& values) {
    writer_.begin(values, plan_.infos());
    for (size_t i = 0; i < plan_.tensors().size(); ++i) {
      if (!plan_.tensors()[i].values.empty()) write(i);
    }
  }

  // Begins a file that says what the folder says; returns the spec that will be read from it.
  ModelSpec begin() {
    std::set<std::string> asked;
    {
      begin_with(values(WindowPattern::kNone, nullptr));
      const auto probe = open_checkpoint(writer_.temporary());
      Meta meta(*probe, context_);
      meta.record(&asked);
      find_family(meta).spec(meta);
    }
    std::string difference;
    for (const WindowPattern pattern : {WindowPattern::kNone, WindowPattern::kPeriod, WindowPattern::kFlags}) {
      const GgufValues said = values(pattern, &asked);
      if (said.empty()) continue;
      begin_with(said);
      const auto file = open_checkpoint(writer_.temporary());
      ModelSpec spec = make_spec(*file, context_);
      std::string found = first_difference(far_, spec);
      if (found.empty()) found = first_difference(near_, make_spec(*file, near_.dims.context));
      if (found.empty()) {
        bind(file, spec, backend_,
             {.compute = Compute::kExact, .dry = true});  // every tensor is where it is looked for
        return spec;
      }
      if (difference.empty()) difference = found;
    }
    fail(ErrorKind::kUnsupported, "{}: GGUF's architecture {} cannot say all that this model computes: {}",
         folder_->path(), architecture_, difference);
  }

  // ---- weights ---------------------------------------------------------------------------------------------------

  // Rows [begin, end) of a part as f32, `width()` values each.
  void read(const PlannedPart& part, int64_t begin, int64_t end, float* out) const {
    const SourceTensor& source = part.source;
    const int64_t stored = source.shape[1], width = part.width();
    if (part.transposed) {
      if (turned_of_ != &part) {
        turned_.resize(static_cast<size_t>(source.shape.elements()));
        read_stored(source, {}, 0, source.shape[0], turned_.data());
        turned_of_ = &part;
      }
      for (int64_t r = begin; r < end; ++r) {
        const int64_t column = part.rows.empty() ? r : part.rows[static_cast<size_t>(r)];
        for (int64_t i = 0; i < width; ++i) *out++ = turned_[static_cast<size_t>(i * stored + column)];
      }
      return;
    }
    read_stored(source, part.rows, begin, end, out);
  }

  void read_stored(const SourceTensor& source, std::span<const int64_t> rows, int64_t begin, int64_t end,
                   float* out) const {
    const int64_t width = source.shape[1];
    backend_.parallel_for(end - begin, 1, [&](int64_t from, int64_t to) {
      std::vector<std::byte> raw(static_cast<size_t>(source.format.row_bytes(width)));
      for (int64_t r = from; r < to; ++r) {
        const int64_t row = rows.empty() ? begin + r : rows[static_cast<size_t>(begin + r)];
        source.read_rows(row, row + 1, raw.data());
        dequantize_row(source.format, raw.data(), width, out + r * width);
      }
    });
  }

  // Quantises values and writes them as the tensor's rows from `row` on.
  void put(size_t index, int64_t row, std::span<float> values) {
    if (options_.cancelled && options_.cancelled()) fail(ErrorKind::kCancelled, "stopped; nothing was written");
    const PlannedTensor& tensor = plan_.tensors()[index];
    const int64_t k = tensor.info.shape[-1], rows = std::ssize(values) / k;
    const int64_t row_bytes = gguf_row_bytes(tensor.info.type, k);
    std::vector<std::byte> out(static_cast<size_t>(rows * row_bytes));
    std::atomic<bool> finite = true;
    backend_.parallel_for(rows, 1, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        float* const row_values = values.data() + r * k;
        for (int64_t i = 0; i < k; ++i) {
          row_values[i] += tensor.add;
          if (!std::isfinite(row_values[i])) finite = false;
        }
        if (finite) quantize_row(tensor.info.type, row_values, k, out.data() + r * row_bytes);
      }
    });
    if (!finite) {
      fail(ErrorKind::kCorrupt, "{}: weights of {} are infinite or no numbers", folder_->path(), tensor.info.name);
    }
    writer_.write(index, row * row_bytes, out);
  }

  void write(size_t index) {
    const PlannedTensor& tensor = plan_.tensors()[index];
    const int64_t k = tensor.info.shape[-1];
    std::vector<float> values = tensor.values;
    if (!values.empty()) return put(index, 0, values);
    if (tensor.parts.front().width() != k) {  // vectors, whose values are rows here
      for (const PlannedPart& part : tensor.parts) {
        const size_t at = values.size();
        values.resize(at + static_cast<size_t>(part.row_count() * part.width()));
        read(part, 0, part.row_count(), values.data() + at);
      }
      return put(index, 0, values);
    }
    int64_t row = 0;
    const int64_t step = std::max<int64_t>(1, kChunkElements / k);
    for (const PlannedPart& part : tensor.parts) {
      for (int64_t begin = 0; begin < part.row_count(); begin += step) {
        const int64_t end = std::min(begin + step, part.row_count());
        values.resize(static_cast<size_t>((end - begin) * k));
        read(part, begin, end, values.data());
        put(index, row, values);
        row += end - begin;
      }
      if (part.source.rows != nullptr) part.source.rows->done();
      if (part.source.file != nullptr) part.source.file->drop_pages(part.source.bytes);
    }
  }

  std::shared_ptr<const Checkpoint> folder_;
  Backend& backend_;
  const ConvertOptions& options_;
  std::string architecture_;
  int64_t context_;
  ModelSpec far_, near_;  // for the whole context, and for that before extension
  GgufPlan plan_;
  GgufWriter writer_;
  mutable std::vector<float> turned_;  // a transposed part's values
  mutable const PlannedPart* turned_of_ = nullptr;
};

}  // namespace

std::string gguf_architecture(const Checkpoint& folder) {
  if (folder.kind() != Checkpoint::Kind::kHuggingFace) {
    fail(ErrorKind::kInvalidArgument, "{} is no folder with config.json and safetensors; only such can be converted",
         folder.path());
  }
  const Meta meta(folder);
  const Family& family = find_family(meta);
  if (!family.written_as.empty()) return family.written_as;
  if (!family.gguf_architectures.empty()) return family.gguf_architectures.front();
  std::string known;
  for (const Family& each : families()) {
    if (!each.written_as.empty() || !each.gguf_architectures.empty())
      known += (known.empty() ? "" : ", ") + std::string(each.name);
  }
  fail(ErrorKind::kUnsupported,
       "{}: the family {} ({}) has no GGUF architecture that Baize reads and writes; these have: {}", folder.path(),
       family.name, meta.architectures().front(), known);
}

ConvertReport convert_to_gguf(const std::shared_ptr<const Checkpoint>& folder, Backend& backend,
                              const ConvertOptions& options) {
  return Conversion(folder, backend, options).run();
}

}  // namespace baize
