// Launchers of the CUDA kernels, one .cu file a group. Each enqueues on `stream` and returns; wrong arguments are our
// bugs, launch failures throw Error. Tensors are device memory.
#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <span>

#include "ops/ops.h"

namespace baize::cuda {

// rows.cu
void embed(cudaStream_t stream, const Embed& table, const Tensor& ids, const Tensor& out);
void norm(cudaStream_t stream, const Tensor& x, const Norm& norm, const Tensor& out);
void add(cudaStream_t stream, const Tensor& residual, const Tensor& x);
void add_norm(cudaStream_t stream, const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out);
void gated_activation(cudaStream_t stream, const Tensor& gate_up, Activation activation, const Tensor& out);
void gather_rows(cudaStream_t stream, const Tensor& x, const Tensor& index, const Tensor& out);
/// out = epilogue(out + bias) in place; for products of libraries that do neither.
void finish_linear(cudaStream_t stream, const Tensor& out, const Tensor& bias, const Epilogue& epilogue);
// sample.cu
/// Greedy choice: keys[r] holds the largest logit of the row and its id (the lowest on a tie).
///                                                                            logits f32 [n, vocab], keys u64 [n]
void argmax(cudaStream_t stream, const Tensor& logits, uint64_t* keys);
/// The token of such a key: -1 where the row holds a NaN or nothing above -infinity.
int32_t argmax_token(uint64_t key);
/// What a row's draw needs of its SampleParams.
struct SampleDraw {
  float temperature, top_p, min_p;
  int32_t top_k;
  uint64_t uniform;  // the draw of {seed, position}, over 2^64
};
/// Draws without bias, penalties and typical sampling. `keys`: of argmax; draws, out: [n].
void sample(cudaStream_t stream, const Tensor& logits, const uint64_t* keys, const SampleDraw* draws, int32_t* out);

// rope.cu
void qk_norm_rope_store(cudaStream_t stream, const QkvArgs& args, const StepInput& input, const Tensor& qkv,
                        const KvView& kv, const Tensor& q);

// attention_rows.cu: each row on its own, its keys cut in `splits` parts that run side by side.
struct RowsPlan {
  bool heads = false;       // attention_heads.cu, on the matrix units
  int most_rows = INT_MAX;  // of a sequence; those with more are left out
  int splits = 1;
  int64_t partial_floats = 0;  // workspace
};
RowsPlan plan_rows_attention(const AttnArgs& args, const StepInput& input, const Tensor& q, const KvView& kv, int sms);
/// `counters`: zeroed i32, rows * heads of them; left zeroed.
void attention_rows(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                    const KvView& kv, const Tensor& out, const RowsPlan& plan, float* partials, int* counters);

// attention_tiles.cu: 128 rows of a sequence at a time on the matrix units; bf16. Of sequences with at least
// `least_rows`.
bool tiles_attention_supports(const AttnArgs& args, const Tensor& q, const KvView& kv);
void attention_tiles(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                     const KvView& kv, const Tensor& out, int least_rows);

// linear_exact.cu: f32 arithmetic on any weights in the stored layout, independent of m.
void linear_exact(cudaStream_t stream, const LinearCall& call);

// gemv_plain.cu: m = 1..16 rows times f32, f16 or bf16 weights; fast for one row.
void gemv_plain(cudaStream_t stream, std::span<const LinearCall> calls);
/// Any type and layout, without speed.
void gemv_any(cudaStream_t stream, const LinearCall& call, bool planar);

// gemv_blocks.cu: m = 1..16 rows, quantised to 8 bits, times GGUF blocks.
int64_t quantized_bytes(int64_t m, int64_t k);
void quantize_rows(cudaStream_t stream, const Tensor& x, void* quantized);
bool gemv_blocks_supports(GgufType type, bool planar);
void gemv_blocks(cudaStream_t stream, const LinearCall& call, bool planar, const void* quantized);

// dequantize.cu: rows [begin, begin + count) of a weight matrix as bf16 [count, k].
void dequantize(cudaStream_t stream, const LinearShape& shape, const void* w, bool planar, int64_t begin, int64_t count,
                void* out);

}  // namespace baize::cuda
