#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/byte_reader.h"
#include "tensor/buffer.h"

namespace baize {

namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr uint64_t kMaxSize = uint64_t{1} << 62;   // of an extent or offset: sums of two stay in range
constexpr int kMaxHeaderDepth = 8;

struct ElementType {
  std::string_view name;
  uint64_t bits;
  std::optional<DType> dtype;  // when Baize computes with it
};
constexpr ElementType kElementTypes[] = {
    {"F32", 32, DType::kF32},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"F64", 64, {}},
    {"I64", 64, {}},
    {"U64", 64, {}},
    {"I32", 32, {}},
    {"U32", 32, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"I8", 8, {}},
    {"U8", 8, {}},
    {"BOOL", 8, {}},
    {"F8_E4M3", 8, DType::kU8},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
    {"C64", 64, {}},
};

const ElementType* find_element_type(std::string_view name) {
  const auto* const it = std::ranges::find(kElementTypes, name, &ElementType::name);
  return it == std::end(kElementTypes) ? nullptr : it;
}

// JSON that refuses duplicate keys at every level: two readers could otherwise see two different files.
Json parse_header(std::string_view text, const std::string& path) {
  std::array<std::unordered_set<std::string>, kMaxHeaderDepth> keys;  // of the open object at each depth
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth + 1 >= kMaxHeaderDepth) fail(ErrorKind::kCorrupt, "{}: the header is nested too deep", path);
    const auto level = static_cast<size_t>(depth);
    if (event == Json::parse_event_t::object_start) keys[level + 1].clear();
    if (event == Json::parse_event_t::key && !keys[level].insert(value.get<std::string>()).second) {
      fail(ErrorKind::kCorrupt, "{}: the header names {} twice", path, in_quotes(value.get<std::string>()));
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::parse_error& e) {
    fail(ErrorKind::kCorrupt, "{}: the header is not valid JSON at its byte {}", path, e.byte);
  } catch (const Json::exception&) {
    fail(ErrorKind::kCorrupt, "{}: the header holds a number out of range", path);
  }
}

class Reader {
 public:
  explicit Reader(const std::shared_ptr<const MappedFile>& file) : file_(file), path_(file->path()) {}

  SafetensorsContent read() {
    const Json header = read_header();
    for (const auto& [name, entry] : header.items()) {
      if (name != "__metadata__") extents_.push_back(extent(name, entry));
    }
    std::ranges::sort(extents_, {}, [](const Extent& e) { return std::pair(e.begin, e.end); });
    check_layout();
    for (Extent& e : extents_) add(e);
    return std::move(out_);
  }

 private:
  struct Extent {
    std::string name, type;
    std::vector<int64_t> shape;
    uint64_t begin, end;  // in the data section
  };

  Json read_header() {
    const auto bytes = file_->bytes();
    refuse_lfs_pointer(bytes, path_);
    ByteReader reader(bytes, path_);
    const auto length = reader.scalar<uint64_t>("the header's length");
    if (length > kMaxHeaderBytes) {
      fail(ErrorKind::kCorrupt, "{} is not a safetensors file: it announces a header of {} bytes", path_, length);
    }
    const auto part = reader.take(length, "the header");
    const std::string_view text(reinterpret_cast<const char*>(part.data()), part.size());
    if (!text.starts_with('{'))
      fail(ErrorKind::kCorrupt, "{} is not a safetensors file: no JSON object at byte 8", path_);
    data_ = bytes.subspan(reader.position());
    return parse_header(text, path_);
  }

  [[noreturn]] void refuse(std::string_view name, std::string_view why) const {
    fail(ErrorKind::kCorrupt, "{}: tensor {}: {}", path_, in_quotes(name), why);
  }

  // One header entry, checked by itself.
  Extent extent(const std::string& name, const Json& entry) const {
    const auto field = [&](const char* key) -> const Json& {
      if (!entry.is_object() || !entry.contains(key)) refuse(name, fmt::format("its header entry has no \"{}\"", key));
      return entry[key];
    };
    const auto is_size = [](const Json& value) {
      return value.is_number_unsigned() && value.get<uint64_t>() <= kMaxSize;
    };
    const Json &type = field("dtype"), &shape = field("shape"), &offsets = field("data_offsets");
    if (!type.is_string()) refuse(name, "\"dtype\" is no string");
    if (!shape.is_array() || !std::ranges::all_of(shape, is_size)) refuse(name, "\"shape\" is no list of sizes");
    if (!offsets.is_array() || offsets.size() != 2 || !std::ranges::all_of(offsets, is_size) ||
        offsets[0] > offsets[1]) {
      refuse(name, "\"data_offsets\" is no pair of rising offsets");
    }
    Extent e{name, type.get<std::string>(), shape.get<std::vector<int64_t>>(), offsets[0].get<uint64_t>(),
             offsets[1].get<uint64_t>()};
    const ElementType* element = find_element_type(e.type);
    if (element == nullptr) return e;  // a type of a later version: its size is unknown, its offsets are checked
    uint64_t bits = element->bits;
    for (const int64_t extent : e.shape) {
      if (__builtin_mul_overflow(bits, static_cast<uint64_t>(extent), &bits)) refuse(name, "its shape is too large");
    }
    if (bits % 8 != 0 || bits / 8 != e.end - e.begin) {
      refuse(name, fmt::format("shape [{}] of {} needs {} bytes, but data_offsets span {}", fmt::join(e.shape, ", "),
                               e.type, (bits + 7) / 8, e.end - e.begin));
    }
    return e;
  }

  // The sorted extents must cover the data section without hole or overlap.
  void check_layout() const {
    uint64_t end = 0;
    for (const Extent& e : extents_) {
      if (e.begin != end) {
        refuse(e.name, fmt::format("its data begin at offset {}, but those before it end at {} ({})", e.begin, end,
                                   e.begin < end ? "an overlap" : "a hole"));
      }
      end = e.end;
    }
    if (end > data_.size()) {
      const auto header = static_cast<int64_t>(file_->bytes().size() - data_.size());
      fail(ErrorKind::kCorrupt, "{} is truncated: its tensors need {} bytes, but the file has {}; fetch it again",
           path_, human_count(header + static_cast<int64_t>(end)),
           human_count(static_cast<int64_t>(file_->bytes().size())));
    }
    if (end < data_.size()) {
      fail(ErrorKind::kCorrupt, "{}: {} bytes follow the last tensor; the format allows none", path_,
           human_count(static_cast<int64_t>(data_.size() - end)));
    }
  }

  void add(Extent& e) {
    const ElementType* element = find_element_type(e.type);
    if (e.type == "I64" && e.shape.size() <= Shape::kMaxRank) {
      const auto bytes = data_.subspan(e.begin, e.end - e.begin);
      const Shape shape(std::span<const int64_t>(e.shape));
      out_.integers.push_back({e.name, QuantFormat::plain(DType::kI64), shape, bytes, file_});
    }
    if (element == nullptr || !element->dtype) {
      out_.unsupported.push_back({std::move(e.name), "the element type " + in_quotes(e.type)});
      return;
    }
    if (e.shape.size() > Shape::kMaxRank) {
      out_.unsupported.push_back({std::move(e.name), fmt::format("{} dimensions", e.shape.size())});
      return;
    }
    if (e.shape.empty()) e.shape = {1};
    SourceTensor tensor;
    tensor.name = std::move(e.name);
    tensor.format = QuantFormat::plain(*element->dtype);
    tensor.shape = Shape(std::span<const int64_t>(e.shape));
    tensor.bytes = data_.subspan(e.begin, e.end - e.begin);
    tensor.file = file_;
    if (reinterpret_cast<uintptr_t>(tensor.bytes.data()) % (element->bits / 8) != 0) copy_out(tensor);
    (element->dtype == DType::kU8 ? out_.fp8 : out_.tensors).push_back(std::move(tensor));
  }

  // Files by early writers have headers of odd lengths, so that elements lie at addresses no kernel may read: such a
  // tensor moves to memory of its own, which lives as long as its file pointer.
  static void copy_out(SourceTensor& tensor) {
    struct Copy {
      std::shared_ptr<const MappedFile> file;
      Buffer memory;
    };
    const auto size = static_cast<int64_t>(tensor.bytes.size());
    const auto copy = std::make_shared<const Copy>(Copy{tensor.file, Buffer::host(size)});
    if (size > 0) std::memcpy(copy->memory.data(), tensor.bytes.data(), tensor.bytes.size());
    tensor.bytes = {static_cast<const std::byte*>(copy->memory.data()), tensor.bytes.size()};
    tensor.file = std::shared_ptr<const MappedFile>(copy, copy->file.get());
  }

  const std::shared_ptr<const MappedFile>& file_;
  const std::string& path_;
  std::span<const std::byte> data_;
  std::vector<Extent> extents_;
  SafetensorsContent out_;
};

}  // namespace

SafetensorsContent read_safetensors(const std::shared_ptr<const MappedFile>& file) { return Reader(file).read(); }

}  // namespace baize
