// The paged cache as kernels see it.
#pragma once

#include "ops/ops.h"

namespace baize::cuda {

struct Paged {
  void* k;
  void* v;
  DType dtype;
  int64_t k_page, k_token, k_head;  // strides in elements; head_dim is contiguous
  int64_t v_page, v_token, v_head;
  const int* table;  // [seqs, table_stride]
  int table_stride;
  int block;  // tokens of a page
};

inline Paged paged(const KvView& kv, const StepInput& input) {
  const Tensor& table = input.block_tables[static_cast<size_t>(kv.group)];
  return {kv.k.data,
          kv.v.data,
          kv.k.dtype,
          kv.k.strides[0],
          kv.k.strides[1],
          kv.k.strides[2],
          kv.v.strides[0],
          kv.v.strides[1],
          kv.v.strides[2],
          static_cast<const int*>(table.data),
          static_cast<int>(table.strides[0]),
          static_cast<int>(kv.k.shape[1])};
}

}  // namespace baize::cuda
