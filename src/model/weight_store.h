// WeightStore: puts checkpoint tensors where a backend wants them: in place in the mapped file, packed into another
// layout (then the stored pages are dropped, so that both are never resident), or uploaded to a device. Used by bind,
// which hands the buffers and the mapped tables to the Model. One thread.
#pragma once

#include <map>
#include <vector>

#include "formats/tensor_source.h"
#include "model/model.h"
#include "ops/backend.h"

namespace baize {

class WeightStore {
 public:
  /// A dry store decides and counts like a real one, but reads, packs and allocates nothing.
  /// `bytes`: resident_bytes() as a dry store counted them, taken from a device at once: it rounds each piece up to
  /// MiB. 0: every matrix is a piece of its own.
  WeightStore(Backend& backend, bool dry, int64_t bytes = 0);

  /// `values` as an f32 tensor [n] on the backend.
  Tensor small(std::span<const float> values) { return put(DType::kF32, values.data(), std::ssize(values)); }
  /// The same of whole numbers, as i32.
  Tensor small(std::span<const int32_t> values) { return put(DType::kI32, values.data(), std::ssize(values)); }

  struct Placed {
    Tensor w, scales;  // scales: of a pack that keeps them apart
  };
  /// A stored matrix [n, k], in the layout of `pack` (null: as stored).
  Placed matrix(const SourceTensor& source, const Pack* pack);

  /// A stored table of which single rows are looked up. On a host it stays in the mapped file, of which MappedTables
  /// keeps little resident; a table that a matrix() uses in place stays whole.
  Tensor table(const SourceTensor& source);

  /// Bytes of weights that will be resident, mapped ones included.
  int64_t resident_bytes() const { return resident_bytes_; }
  std::vector<Buffer> take_buffers() { return std::move(buffers_); }
  MappedTables take_tables() { return std::move(tables_); }

 private:
  Tensor put(DType dtype, const void* values, int64_t count);
  void* hold(int64_t bytes);
  /// What a matrix takes where it is put beside others.
  int64_t room_of(int64_t bytes) const;
  void upload(void* to, const SourceTensor& source);
  Tensor made(const SourceTensor& source, int64_t bytes);
  void make_rows(const SourceTensor& source, std::byte* to);
  Placed packed(const SourceTensor& source, const LinearShape& shape, const Pack& pack);

  Backend& backend_;
  bool dry_;
  int64_t resident_bytes_ = 0;
  std::vector<Buffer> buffers_;
  MappedTables tables_;
  char* all_next_ = nullptr;  // unused rest of what was taken at once
  int64_t all_left_ = 0;
  char* small_next_ = nullptr;  // unused rest of the current buffer of small tensors
  int64_t small_left_ = 0;
  std::map<std::pair<const SourceTensor*, const Pack*>, Placed> placed_;  // so that shared matrices are placed once
};

}  // namespace baize
