#include "model/weight_store.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>

namespace baize {

namespace {
constexpr int64_t kSmallChunk = int64_t{1} << 20;
constexpr int64_t kSmallAlignment = 256;
constexpr int64_t kRowsAtOnce = 16;  // made by a thread, at least
constexpr int64_t kRowsKept = 64;    // some MiB; rows of one long step come on top
}  // namespace

void MappedTables::looked_up(int64_t rows) {
  rows_ += rows;
  if (rows_ < kRowsKept) return;
  rows_ = 0;
  for (const Table& table : tables_) table.file->drop_pages(table.bytes);
}

WeightStore::WeightStore(Backend& backend, bool dry, int64_t bytes) : backend_(backend), dry_(dry) {
  if (dry || bytes == 0 || backend.place().kind == Place::kHost) return;
  all_next_ = static_cast<char*>(hold(bytes));
  all_left_ = bytes;
}

int64_t WeightStore::room_of(int64_t bytes) const {
  return backend_.place().kind == Place::kHost ? bytes
                                               : (bytes + kSmallAlignment - 1) / kSmallAlignment * kSmallAlignment;
}

void* WeightStore::hold(int64_t bytes) {
  if (const int64_t room = room_of(bytes); room <= all_left_) {
    all_left_ -= room;
    return std::exchange(all_next_, all_next_ + room);
  }
  buffers_.push_back(backend_.allocate(bytes));
  return buffers_.back().data();
}

Tensor WeightStore::put(DType dtype, const void* values, int64_t count) {
  const int64_t bytes = count * dtype_bytes(dtype);
  const int64_t room = (bytes + kSmallAlignment - 1) / kSmallAlignment * kSmallAlignment;
  const Shape shape{count};
  resident_bytes_ += room;
  if (dry_) return Tensor(nullptr, dtype, shape, backend_.place());
  if (small_left_ < room) {
    small_left_ = room <= all_left_ ? room : std::max(room, kSmallChunk);
    small_next_ = static_cast<char*>(hold(small_left_));
  }
  void* at = small_next_;
  small_next_ += room;
  small_left_ -= room;
  backend_.upload(at, values, bytes);
  return Tensor(at, dtype, shape, backend_.place());
}

// Dummies repeat: one period crosses the bus, the device doubles it.
void WeightStore::upload(void* to, const SourceTensor& source) {
  const auto bytes = static_cast<int64_t>(source.bytes.size());
  int64_t done = source.period > 0 ? std::min(source.period, bytes) : bytes;
  backend_.upload(to, source.bytes.data(), done);
  for (int64_t next = 0; done < bytes; done += next) {
    next = std::min(done, bytes - done);
    backend_.copy(static_cast<char*>(to) + done, to, next);
  }
}

WeightStore::Placed WeightStore::matrix(const SourceTensor& source, const Pack* pack) {
  const LinearShape shape{source.format, source.shape[0], source.shape[1]};
  const std::pair key(&source, pack);
  if (const auto known = placed_.find(key); known != placed_.end()) return known->second;
  if (pack != nullptr) return placed_[key] = packed(source, shape, *pack);

  const auto bytes = static_cast<int64_t>(source.bytes.size());
  resident_bytes_ += room_of(bytes);
  if (source.rows != nullptr) return placed_[key] = {made(source, bytes), {}};
  Tensor view(const_cast<std::byte*>(source.bytes.data()), DType::kU8, {bytes});  // read-only by contract
  if (backend_.place().kind != Place::kHost) {
    view = Tensor(nullptr, DType::kU8, {bytes}, backend_.place());
    if (!dry_) {
      view.data = hold(bytes);
      upload(view.data, source);
      if (source.file != nullptr) source.file->drop_pages(source.bytes);
    }
  }
  return placed_[key] = {view, {}};
}

Tensor WeightStore::made(const SourceTensor& source, int64_t bytes) {
  Tensor result(nullptr, DType::kU8, {bytes}, backend_.place());
  if (dry_) return result;
  result.data = hold(bytes);
  const bool host = backend_.place().kind == Place::kHost;
  const Buffer staging = host ? Buffer() : Buffer::host(bytes);
  auto* target = static_cast<std::byte*>(host ? result.data : staging.data());
  make_rows(source, target);
  if (!host) backend_.upload(result.data, target, bytes);
  return result;
}

void WeightStore::make_rows(const SourceTensor& source, std::byte* to) {
  const int64_t row_bytes = source.format.row_bytes(source.width());
  std::mutex mutex;
  std::exception_ptr error;  // of any thread: it ends the loading, but must not end the thread
  backend_.parallel_for(source.row_count(), kRowsAtOnce, [&](int64_t begin, int64_t end) {
    try {
      source.read_rows(begin, end, to + begin * row_bytes);
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
    }
  });
  if (error != nullptr) std::rethrow_exception(error);
  source.rows->done();
}

Tensor WeightStore::table(const SourceTensor& source) {
  const bool stays = backend_.place().kind != Place::kHost || source.file == nullptr || source.rows != nullptr;
  if (stays || placed_.contains({&source, nullptr})) return matrix(source, nullptr).w;
  resident_bytes_ += std::min<int64_t>(static_cast<int64_t>(source.bytes.size()), MappedTables::kResidentBytes);
  tables_.add(source);
  return {const_cast<std::byte*>(source.bytes.data()), DType::kU8, {static_cast<int64_t>(source.bytes.size())}};
}

WeightStore::Placed WeightStore::packed(const SourceTensor& source, const LinearShape& shape, const Pack& pack) {
  const int64_t bytes = pack.bytes(shape);
  resident_bytes_ += room_of(bytes);
  Placed result{Tensor(nullptr, DType::kU8, {bytes}, backend_.place()), {}};
  std::vector<float> scales(static_cast<size_t>(pack.scale_count != nullptr ? pack.scale_count(shape) : 0));
  if (dry_) {
    if (!scales.empty()) result.scales = small(scales);
    return result;
  }
  result.w.data = hold(bytes);
  const bool host = backend_.place().kind == Place::kHost;
  const Buffer staging = host ? Buffer() : Buffer::host(bytes);
  auto* target = static_cast<std::byte*>(host ? result.w.data : staging.data());
  const std::byte* stored = source.bytes.data();
  Buffer rows;
  if (source.rows != nullptr) {
    rows = Buffer::host(static_cast<int64_t>(source.bytes.size()));
    make_rows(source, static_cast<std::byte*>(rows.data()));
    stored = static_cast<const std::byte*>(rows.data());
  }
  backend_.parallel_for(shape.n, std::max<int64_t>(pack.row_step, 64 / pack.row_step * pack.row_step),
                        [&](int64_t begin, int64_t end) { pack.repack(shape, stored, target, begin, end); });
  if (!host) backend_.upload(result.w.data, target, bytes);
  if (!scales.empty()) {
    pack.repack_scales(shape, stored, scales.data(), 0, shape.n);
    result.scales = small(scales);
  }
  if (source.rows == nullptr && source.file != nullptr) source.file->drop_pages(source.bytes);
  return result;
}

}  // namespace baize
