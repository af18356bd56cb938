#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/byte_reader.h"
#include "formats/gguf_codes.h"

namespace baize {

namespace {

// Bytes of a value of fixed size; 0 for strings, arrays and unknown codes.
size_t fixed_bytes(uint32_t type) {
  constexpr std::array<uint8_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kBytes.size() ? kBytes[type] : 0;
}

constexpr int kMaxArrayDepth = 4;
constexpr uint64_t kMaxMetadataArray = 65'536;
constexpr uint64_t kMaxNameBytes = 65'535;  // the specification's limit for keys
constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorInfoBytes = 8 + 4 + 8 + 4 + 8;

// Reads one value of fixed size and hands it to `use` in its own type.
template <typename Use>
auto with_scalar(ByteReader& reader, uint32_t type, std::string_view what, Use use) {
  switch (type) {
    case GgufCode::kUint8:
      return use(reader.scalar<uint8_t>(what));
    case GgufCode::kInt8:
      return use(reader.scalar<int8_t>(what));
    case GgufCode::kUint16:
      return use(reader.scalar<uint16_t>(what));
    case GgufCode::kInt16:
      return use(reader.scalar<int16_t>(what));
    case GgufCode::kUint32:
      return use(reader.scalar<uint32_t>(what));
    case GgufCode::kInt32:
      return use(reader.scalar<int32_t>(what));
    case GgufCode::kFloat32:
      return use(reader.scalar<float>(what));
    case GgufCode::kBool:
      return use(reader.scalar<uint8_t>(what) != 0);
    case GgufCode::kUint64:
      return use(reader.scalar<uint64_t>(what));
    case GgufCode::kInt64:
      return use(reader.scalar<int64_t>(what));
    case GgufCode::kFloat64:
      return use(reader.scalar<double>(what));
    default:
      BAIZE_UNREACHABLE("a value type without a fixed size");
  }
}

Json scalar_json(ByteReader& reader, uint32_t type) {
  return with_scalar(reader, type, "a value", [](auto value) { return Json(value); });
}

}  // namespace

// Reads one file from front to back. Lives only inside GgufFile::parse.
class GgufParser {
 public:
  explicit GgufParser(GgufFile& out) : out_(out), path_(out.path()), reader_(out.file_->bytes(), path_) {}

  void parse() {
    const auto [n_tensors, n_values] = header();
    for (uint64_t i = 0; i < n_values; ++i) key_value();
    make_metadata();
    const uint64_t step = alignment();
    for (uint64_t i = 0; i < n_tensors; ++i) tensor_info(step);
    place_tensors(step);
  }

 private:
  using Value = GgufFile::Value;
  struct Counts {
    uint64_t tensors, values;
  };
  struct Extent {
    uint64_t offset, bytes;  // in the data section
    size_t tensor;
  };

  Counts header() {
    const auto bytes = out_.file_->bytes();
    refuse_lfs_pointer(bytes, path_);
    const std::string_view magic(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 4));
    if (magic != "GGUF") {
      fail(ErrorKind::kCorrupt, "{} is not a GGUF file: it begins with {} instead of \"GGUF\"", path_,
           magic.empty() ? "nothing (the file is empty)" : in_quotes(magic));
    }
    reader_.take(4, "the magic number");
    const auto version = reader_.scalar<uint32_t>("the version");
    if (version != 2 && version != 3) {
      // A small version with its bytes reversed is a file for big-endian machines.
      if ((version & 0xffff) == 0 && version != 0) {
        fail(ErrorKind::kUnsupported, "{} is a big-endian GGUF file; convert it to little endian first", path_);
      }
      fail(ErrorKind::kUnsupported, "{} has GGUF version {}; Baize reads versions 2 and 3", path_, version);
    }
    out_.version_ = static_cast<int>(version);
    const auto tensors = reader_.scalar<uint64_t>("the tensor count");
    const auto values = reader_.scalar<uint64_t>("the key-value count");
    // A count that the rest of the file cannot hold is refused before anything is reserved for it.
    if (values > reader_.remaining() / kMinKeyValueBytes || tensors > reader_.remaining() / kMinTensorInfoBytes) {
      fail(ErrorKind::kCorrupt,
           "{} is truncated or corrupt: its header announces {} key-values and {} tensors, too many for its {} bytes",
           path_, values, tensors, human_count(static_cast<int64_t>(bytes.size())));
    }
    out_.values_.reserve(values);
    out_.tensors_.reserve(tensors);
    extents_.reserve(tensors);
    return {tensors, values};
  }

  // A key or tensor name: not empty, valid UTF-8 (it goes into JSON and onto terminals).
  std::string_view name(std::string_view what) {
    const std::string_view text = reader_.string(what);
    if (text.empty() || text.size() > kMaxNameBytes || utf8_lossy(text) != text) {
      fail(ErrorKind::kCorrupt, "{}: {} {} is {}", path_, what, in_quotes(text),
           text.empty()                  ? "empty"
           : text.size() > kMaxNameBytes ? "longer than 65,535 bytes"
                                         : "not valid UTF-8");
    }
    return text;
  }

  void key_value() {
    const std::string_view key = name("a key");
    const auto type = reader_.scalar<uint32_t>("a value's type");
    const Value value = type == GgufCode::kArray ? array(reader_, key, 1) : scalar(key, type);
    if (!out_.values_.emplace(key, value).second) {
      fail(ErrorKind::kCorrupt, "{}: the key {} appears twice", path_, in_quotes(key));
    }
  }

  Value scalar(std::string_view key, uint32_t type) {
    if (type == GgufCode::kString) {
      const std::string_view text = reader_.string(key);
      return {GgufCode::kString, false, 1, std::as_bytes(std::span(text))};
    }
    check_type(key, type);
    return {type, false, 1, reader_.take(fixed_bytes(type), key)};
  }

  // The array at the reader's position, from its element type on; leaves the reader behind it.
  Value array(ByteReader& reader, std::string_view key, int depth) const {
    const auto type = reader.scalar<uint32_t>(key);
    const auto count = reader.scalar<uint64_t>(key);
    const auto too_long = [&](uint64_t least_bytes) {
      if (count <= reader.remaining() / std::max<uint64_t>(1, least_bytes)) return;
      fail(ErrorKind::kCorrupt, "{} is truncated or corrupt: the array {} announces {} elements, but {} bytes follow",
           path_, in_quotes(key), count, human_count(static_cast<int64_t>(reader.remaining())));
    };
    if (type != GgufCode::kString && type != GgufCode::kArray) {
      check_type(key, type);
      too_long(fixed_bytes(type));
      return {type, true, count, reader.take(count * fixed_bytes(type), key)};
    }
    too_long(type == GgufCode::kString ? 8 : 12);
    if (type == GgufCode::kArray && depth >= kMaxArrayDepth) {
      fail(ErrorKind::kCorrupt, "{}: the array {} is nested deeper than {} levels", path_, in_quotes(key),
           kMaxArrayDepth);
    }
    ByteReader begin = reader;
    for (uint64_t i = 0; i < count; ++i) {
      if (type == GgufCode::kString) {
        reader.string(key);
      } else {
        array(reader, key, depth + 1);
      }
    }
    return {type, true, count, begin.take(reader.position() - begin.position(), key)};
  }

  void check_type(std::string_view key, uint32_t type) const {
    if (fixed_bytes(type) != 0) return;
    fail(ErrorKind::kCorrupt, "{}: the value of {} has the unknown type code {}", path_, in_quotes(key), type);
  }

  void make_metadata() {
    Json all = Json::object();
    for (const auto& [key, value] : out_.values_) {
      if (value.is_array && (key.starts_with("tokenizer.") || value.count > kMaxMetadataArray)) continue;
      ByteReader reader(value.bytes, path_);
      all[std::string(key)] = value.is_array                    ? array_json(value)
                              : value.type == GgufCode::kString ? text_json(value.bytes)
                                                                : scalar_json(reader, value.type);
    }
    out_.metadata_ = std::make_unique<Json>(std::move(all));
  }

  static Json text_json(std::span<const std::byte> bytes) {
    return utf8_lossy({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  Json array_json(const Value& value) const {
    Json list = Json::array();
    ByteReader reader(value.bytes, path_);
    for (uint64_t i = 0; i < value.count; ++i) {
      if (value.type == GgufCode::kArray) {
        list.push_back(array_json(array(reader, "an array", 1)));
      } else if (value.type == GgufCode::kString) {
        list.push_back(utf8_lossy(reader.string("an array")));
      } else {
        list.push_back(scalar_json(reader, value.type));
      }
    }
    return list;
  }

  // The alignment of the data section and of every tensor in it.
  uint64_t alignment() const {
    const auto it = out_.metadata_->find("general.alignment");
    if (it == out_.metadata_->end()) return 32;
    const uint64_t step = it->is_number_unsigned() ? it->get<uint64_t>() : 0;
    if (step < 8 || !std::has_single_bit(step) || step > (uint64_t{1} << 31)) {
      fail(ErrorKind::kCorrupt, "{}: general.alignment is {}; it must be a power of two of at least 8", path_,
           it->dump(-1, ' ', true));
    }
    return step;
  }

  void tensor_info(uint64_t step) {
    SourceTensor tensor;
    tensor.name = name("a tensor name");
    if (!names_.insert(tensor.name).second) {
      fail(ErrorKind::kCorrupt, "{}: the tensor {} appears twice", path_, in_quotes(tensor.name));
    }
    const auto rank = reader_.scalar<uint32_t>("a tensor's rank");
    if (rank < 1 || rank > Shape::kMaxRank) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} has {} dimensions; 1 to {} are possible", path_, in_quotes(tensor.name),
           rank, Shape::kMaxRank);
    }
    std::array<int64_t, Shape::kMaxRank> dims{};  // outermost first; the file has the innermost first
    for (uint32_t i = 0; i < rank; ++i) dims[rank - 1 - i] = reader_.scalar<int64_t>("a tensor's dimensions");
    tensor.shape = Shape(std::span<const int64_t>(dims).first(rank));
    tensor.format = weight_format(tensor.name, reader_.scalar<uint32_t>("a tensor's type"));
    tensor.file = out_.file_;
    const auto offset = reader_.scalar<uint64_t>("a tensor's offset");
    if (offset % step != 0) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} begins at offset {}, which is no multiple of the alignment {}", path_,
           in_quotes(tensor.name), offset, step);
    }
    extents_.push_back({offset, tensor_bytes(tensor), out_.tensors_.size()});
    out_.tensors_.push_back(std::move(tensor));
  }

  QuantFormat weight_format(std::string_view tensor, uint32_t code) const {
    if (const auto type = gguf_type_from_code(code)) return QuantFormat::gguf(*type);
    const std::string_view known = gguf_code_name(code);
    if (known.empty()) {
      fail(ErrorKind::kUnsupported, "{}: tensor {} has the unknown weight type {}", path_, in_quotes(tensor), code);
    }
    std::string supported;
    for (const GgufTypeInfo& info : gguf_types())
      supported += fmt::format("{}{}", supported.empty() ? "" : ", ", info.name);
    fail(ErrorKind::kUnsupported,
         "{}: tensor {} has the weight type {}, which Baize does not compute with; it reads {}", path_,
         in_quotes(tensor), known, supported);
  }

  // Bytes of the data, with every product checked.
  uint64_t tensor_bytes(const SourceTensor& tensor) const {
    const auto refuse = [&](std::string_view why) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} has the shape {}, {}", path_, in_quotes(tensor.name),
           tensor.shape.to_string(), why);
    };
    const int64_t k = tensor.shape[-1];
    const int block = tensor.format.block_elems();
    int64_t rows = 1;
    for (int i = 0; i < tensor.shape.rank(); ++i) {
      if (tensor.shape[i] <= 0) refuse("whose extents must be positive");
      if (i + 1 < tensor.shape.rank() && __builtin_mul_overflow(rows, tensor.shape[i], &rows))
        refuse("which is too large");
    }
    if (k % block != 0)
      refuse(fmt::format("whose rows are no multiple of {}'s block of {}", tensor.format.name(), block));
    int64_t bytes = 0;
    if (__builtin_mul_overflow(k / block, tensor.format.row_bytes(block), &bytes) ||
        __builtin_mul_overflow(bytes, rows, &bytes)) {
      refuse("which is too large");
    }
    return static_cast<uint64_t>(bytes);
  }

  // Gives every tensor its bytes, once the place of the data section is known.
  void place_tensors(uint64_t step) {
    if (extents_.empty()) return;
    const auto file = out_.file_->bytes();
    const uint64_t data = (reader_.position() + step - 1) / step * step;
    std::ranges::sort(extents_, {}, &Extent::offset);
    uint64_t end = 0;
    for (size_t i = 0; i < extents_.size(); ++i) {
      const Extent& e = extents_[i];
      if (e.offset < end) {
        fail(ErrorKind::kCorrupt, "{}: the data of tensors {} and {} overlap", path_,
             in_quotes(out_.tensors_[extents_[i - 1].tensor].name), in_quotes(out_.tensors_[e.tensor].name));
      }
      if (__builtin_add_overflow(e.offset, e.bytes, &end) || end > std::numeric_limits<int64_t>::max() - data) {
        fail(ErrorKind::kCorrupt, "{}: tensor {} begins at the impossible offset {}", path_,
             in_quotes(out_.tensors_[e.tensor].name), e.offset);
      }
    }
    if (data + end > file.size()) {
      fail(ErrorKind::kCorrupt, "{} is truncated: its tensors need {} bytes, but the file has {}; fetch it again",
           path_, human_count(static_cast<int64_t>(data + end)), human_count(static_cast<int64_t>(file.size())));
    }
    for (const Extent& e : extents_) out_.tensors_[e.tensor].bytes = file.subspan(data + e.offset, e.bytes);
  }

  GgufFile& out_;
  const std::string& path_;
  ByteReader reader_;
  std::unordered_set<std::string> names_;
  std::vector<Extent> extents_;
};

GgufFile::GgufFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {}
GgufFile::~GgufFile() = default;

std::shared_ptr<const GgufFile> GgufFile::open(const std::string& path) { return parse(MappedFile::open(path)); }

std::shared_ptr<const GgufFile> GgufFile::parse(std::shared_ptr<const MappedFile> file) {
  std::shared_ptr<GgufFile> out(new GgufFile(std::move(file)));
  GgufParser(*out).parse();
  return out;
}

const GgufFile::Value* GgufFile::array(std::string_view key) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return nullptr;
  if (!it->second.is_array) fail(ErrorKind::kCorrupt, "{}: {} must be an array", path(), in_quotes(key));
  return &it->second;
}

std::vector<std::string_view> GgufFile::strings(std::string_view key) const {
  std::vector<std::string_view> out;
  const Value* value = array(key);
  if (value == nullptr) return out;
  if (value->type != GgufCode::kString)
    fail(ErrorKind::kCorrupt, "{}: {} must be an array of strings", path(), in_quotes(key));
  out.reserve(value->count);
  ByteReader reader(value->bytes, path());
  for (uint64_t i = 0; i < value->count; ++i) out.push_back(reader.string(key));
  return out;
}

std::vector<float> GgufFile::floats(std::string_view key) const {
  std::vector<float> out;
  const Value* value = array(key);
  if (value == nullptr) return out;
  if (value->type != GgufCode::kFloat32 && value->type != GgufCode::kFloat64) {
    fail(ErrorKind::kCorrupt, "{}: {} must be an array of floats", path(), in_quotes(key));
  }
  out.reserve(value->count);
  ByteReader reader(value->bytes, path());
  for (uint64_t i = 0; i < value->count; ++i) {
    out.push_back(with_scalar(reader, value->type, key, [](auto number) { return static_cast<float>(number); }));
  }
  return out;
}

std::vector<int64_t> GgufFile::ints(std::string_view key) const {
  std::vector<int64_t> out;
  const Value* value = array(key);
  if (value == nullptr) return out;
  if (fixed_bytes(value->type) == 0 || value->type == GgufCode::kFloat32 || value->type == GgufCode::kFloat64) {
    fail(ErrorKind::kCorrupt, "{}: {} must be an array of integers", path(), in_quotes(key));
  }
  out.reserve(value->count);
  ByteReader reader(value->bytes, path());
  for (uint64_t i = 0; i < value->count; ++i) {
    out.push_back(with_scalar(reader, value->type, key, [&](auto number) {
      if constexpr (std::is_same_v<decltype(number), uint64_t>) {
        if (!std::in_range<int64_t>(number))
          fail(ErrorKind::kCorrupt, "{}: {} holds {}", path(), in_quotes(key), number);
      }
      return static_cast<int64_t>(number);
    }));
  }
  return out;
}

}  // namespace baize
