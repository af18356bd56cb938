#include "formats/dummy_weights.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "tensor/gguf_blocks.h"

namespace baize {

namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kPages = 16381;  // a prime: rows of usual widths do not repeat before it does

uint64_t next(uint64_t& state) {  // xorshift64 (Marsaglia 2003)
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

// One page more than asked for would cut a block: the pages of a pool hold whole blocks.
int64_t whole_pages(int64_t block_bytes) {
  BAIZE_CHECK(block_bytes > 0);
  const int64_t step = block_bytes / std::gcd(block_bytes, kPage);
  return (kPages + step - 1) / step * step;
}

template <typename T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

void fill_plain(std::span<std::byte> out, DType elem, bool vector, uint64_t& state) {
  const size_t size = static_cast<size_t>(dtype_bytes(elem));
  for (size_t at = 0; at < out.size(); at += size) {
    const float unit = static_cast<float>(next(state) >> 40) * 0x1p-24f * 2 - 1;  // [-1, 1)
    const float value = vector ? 1 + unit / 16 : unit * 0.035f;
    if (elem == DType::kF32) store(&out[at], value);
    if (elem == DType::kF16) store(&out[at], f32_to_f16(value));
    if (elem == DType::kBF16) store(&out[at], f32_to_bf16(value));
  }
}

// Random quants under scales that make weights of about 0.02.
template <typename Block, typename SetScales>
void fill_blocks(std::span<std::byte> out, uint64_t& state, const SetScales& set_scales) {
  for (size_t at = 0; at < out.size(); at += 8) store(&out[at], next(state));
  for (size_t at = 0; at + sizeof(Block) <= out.size(); at += sizeof(Block)) {
    Block block;
    std::memcpy(&block, &out[at], sizeof block);
    set_scales(block);
    std::memcpy(&out[at], &block, sizeof block);
  }
}

void fill(std::span<std::byte> out, const QuantFormat& format, bool vector) {
  uint64_t state = 0x9e3779b97f4a7c15;
  if (format.scheme == Scheme::kPlain) return fill_plain(out, format.elem, vector, state);
  const auto f16 = [](float value) { return f32_to_f16(value); };
  switch (format.block) {
    case GgufType::kQ4_0:
      return fill_blocks<BlockQ4_0>(out, state, [&](BlockQ4_0& b) { b.d = f16(0.004f); });
    case GgufType::kQ8_0:
      return fill_blocks<BlockQ8_0>(out, state, [&](BlockQ8_0& b) { b.d = f16(0.0003f); });
    case GgufType::kQ4_K:  // scales and minima average 32: 32 q d is centred by 32 dmin = 7.5 * 32 d
      return fill_blocks<BlockQ4_K>(out, state, [&](BlockQ4_K& b) {
        b.d = f16(0.0001f);
        b.dmin = f16(0.00075f);
      });
    case GgufType::kQ6_K:
      return fill_blocks<BlockQ6_K>(out, state, [&](BlockQ6_K& b) { b.d = f16(0.000015f); });
    default:
      fail(ErrorKind::kUnsupported, "dummy weights are not made as {}", format.name());
  }
}

[[noreturn]] void fail_memory(const char* what, int64_t bytes) {
  fail(ErrorKind::kResource, "cannot {} {} bytes for dummy weights: {}", what, bytes, std::strerror(errno));
}

std::span<std::byte> reserve(int64_t bytes) {
  void* const range = mmap(nullptr, static_cast<size_t>(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (range == MAP_FAILED) fail_memory("reserve", bytes);
  return {static_cast<std::byte*>(range), static_cast<size_t>(bytes)};
}

// The file's bytes again and again over a range of addresses.
std::span<std::byte> map_again_and_again(int file, int64_t period, int64_t size) {
  const int64_t whole = (size + period - 1) / period * period;
  const std::span<std::byte> range = reserve(whole);
  for (int64_t at = 0; at < whole; at += period) {
    void* const to = range.data() + at;
    if (mmap(to, static_cast<size_t>(period), PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == to) continue;
    munmap(range.data(), range.size());
    fail_memory("map", whole);
  }
  return range;
}

}  // namespace

DummyWeights::Pool& DummyWeights::pool(const QuantFormat& format, bool vector) {
  for (Pool& pool : pools_) {
    if (pool.format == format && pool.vector == vector) return pool;
  }
  const int64_t bytes = whole_pages(format.row_bytes(format.block_elems())) * kPage;
  std::vector<std::byte> values(static_cast<size_t>(bytes));
  fill(values, format, vector);
  const int file = memfd_create("baize-dummy-weights", MFD_CLOEXEC);
  if (file < 0) fail_memory("make", bytes);
  for (size_t at = 0; at < values.size();) {
    const ssize_t written = write(file, &values[at], values.size() - at);
    if (written < 0) {
      close(file);
      fail_memory("write", bytes);
    }
    at += static_cast<size_t>(written);
  }
  return pools_.emplace_back(Pool{format, vector, file, bytes});
}

DummyWeights::Bytes DummyWeights::bytes(const QuantFormat& format, bool vector, int64_t size) {
  const std::scoped_lock lock(mutex_);
  Pool& from = pool(format, vector);
  if (std::ssize(from.mapped) < size) {
    const std::span<std::byte> larger = map_again_and_again(from.file, from.period, size);
    if (!from.mapped.empty()) outgrown_.push_back(from.mapped);
    from.mapped = larger;
  }
  return {from.mapped.first(static_cast<size_t>(size)), from.period};
}

std::span<const std::byte> DummyWeights::unread(int64_t size) {
  const std::scoped_lock lock(mutex_);
  if (std::ssize(unread_) < size) {
    const std::span<std::byte> larger = reserve(size);
    if (!unread_.empty()) outgrown_.push_back(unread_);
    unread_ = larger;
  }
  return unread_.first(static_cast<size_t>(size));
}

DummyWeights::~DummyWeights() {
  if (!unread_.empty()) munmap(unread_.data(), unread_.size());
  for (const Pool& pool : pools_) {
    if (!pool.mapped.empty()) munmap(pool.mapped.data(), pool.mapped.size());
    close(pool.file);
  }
  for (const std::span<std::byte> old : outgrown_) munmap(old.data(), old.size());
}

}  // namespace baize
