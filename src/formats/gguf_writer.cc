#include "formats/gguf_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/check.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/gguf_codes.h"

namespace baize {

namespace fs = std::filesystem;

namespace {

constexpr uint32_t kVersion = 3;

int64_t aligned(int64_t offset) {
  return (offset + GgufWriter::kAlignment - 1) / GgufWriter::kAlignment * GgufWriter::kAlignment;
}

// The bytes of the file before its data.
class Header {
 public:
  void begin(size_t tensors, size_t values) {
    bytes_ = "GGUF";
    number(kVersion);
    number(static_cast<uint64_t>(tensors));
    number(static_cast<uint64_t>(values));
  }
  void value(const std::string& key, const GgufValue& value) {
    text(key);
    std::visit([&](const auto& held) { put(held); }, value);
  }
  void tensor(const GgufTensorInfo& info, int64_t offset) {
    text(info.name);
    number(static_cast<uint32_t>(info.shape.rank()));
    for (int i = info.shape.rank() - 1; i >= 0; --i) number(static_cast<uint64_t>(info.shape[i]));
    number(static_cast<uint32_t>(info.type));
    number(static_cast<uint64_t>(offset));
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

 private:
  template <typename T>
  void number(T value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes_.append(raw, sizeof raw);
  }
  void text(const std::string& value) {
    number(static_cast<uint64_t>(value.size()));
    bytes_ += value;
  }
  template <typename T>
  static constexpr GgufCode::Type code_of() {
    if constexpr (std::is_same_v<T, bool>) return GgufCode::kBool;
    if constexpr (std::is_same_v<T, uint8_t>) return GgufCode::kUint8;
    if constexpr (std::is_same_v<T, uint32_t>) return GgufCode::kUint32;
    if constexpr (std::is_same_v<T, int32_t>) return GgufCode::kInt32;
    if constexpr (std::is_same_v<T, uint64_t>) return GgufCode::kUint64;
    if constexpr (std::is_same_v<T, float>) return GgufCode::kFloat32;
    if constexpr (std::is_same_v<T, std::string>) return GgufCode::kString;
  }
  template <typename T>
  void element(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      text(value);
    } else if constexpr (std::is_same_v<T, bool>) {
      number(static_cast<uint8_t>(value ? 1 : 0));
    } else {
      number(value);
    }
  }
  template <typename T>
  void put(const T& value) {
    number(static_cast<uint32_t>(code_of<T>()));
    element(value);
  }
  template <typename T>
  void put(const std::vector<T>& values) {
    number(static_cast<uint32_t>(GgufCode::kArray));
    number(static_cast<uint32_t>(code_of<T>()));
    number(static_cast<uint64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) element<T>(values[i]);
  }

  std::string bytes_;
};

}  // namespace

int64_t GgufTensorInfo::bytes() const { return shape.elements() / shape[-1] * gguf_row_bytes(type, shape[-1]); }

GgufWriter::GgufWriter(std::string path, bool replace)
    : path_(std::move(path)), temporary_(fmt::format("{}.part-{}", path_, getpid())) {
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (fs::is_directory(status)) {
    fail(ErrorKind::kInvalidArgument, "{} is a folder; give the name of the file to write", path_);
  }
  if (fs::exists(status) && !replace) {
    fail(ErrorKind::kInvalidArgument, "{} exists already; --force replaces it", path_);
  }
}

GgufWriter::~GgufWriter() {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
}

void GgufWriter::refuse(const char* what, int error) const {
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    fail(ErrorKind::kResource, "cannot write {}: there is no room for its {} ({})", path_, human_bytes(file_bytes_),
         std::strerror(error));
  }
  fail(ErrorKind::kIo, "cannot {} {}: {}", what, path_, std::strerror(error));
}

void GgufWriter::begin(const GgufValues& values, std::vector<GgufTensorInfo> tensors) {
  tensors_ = std::move(tensors);
  offsets_.clear();
  Header header;
  header.begin(tensors_.size(), values.size());
  for (const auto& [key, value] : values) header.value(key, value);
  int64_t data = 0;
  for (const GgufTensorInfo& tensor : tensors_) {
    header.tensor(tensor, data);
    offsets_.push_back(data);
    data += aligned(tensor.bytes());
  }
  const int64_t first = aligned(std::ssize(header.bytes()));
  for (int64_t& offset : offsets_) offset += first;
  file_bytes_ = first + data;

  if (file_ < 0) {
    file_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_ < 0) refuse("write", errno);
  }
  // A limit on the size of files would otherwise end the process instead of the call.
  struct sigaction ignore{}, before{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &ignore, &before);
  int error = ftruncate(file_, 0) == 0 ? 0 : errno;
  if (error == 0) error = posix_fallocate(file_, 0, file_bytes_);
  sigaction(SIGXFSZ, &before, nullptr);
  if (error != 0) refuse("write", error);
  write_at(0, header.bytes());
}

void GgufWriter::write(size_t index, int64_t offset, std::span<const std::byte> bytes) {
  BAIZE_CHECK(index < tensors_.size() && offset >= 0 && offset + std::ssize(bytes) <= tensors_[index].bytes());
  write_at(offsets_[index] + offset, bytes);
}

void GgufWriter::write_at(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(file_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) refuse("write", written < 0 ? errno : EIO);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
}

void GgufWriter::finish() {
  BAIZE_CHECK(file_ >= 0);
  if (fsync(file_) != 0) refuse("write", errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) refuse("write", errno);
  close(file_);
  file_ = -1;
}

}  // namespace baize
