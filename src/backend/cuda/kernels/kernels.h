// Launchers of the CUDA kernels, one .cu file a group. Each enqueues on `stream` and returns; wrong arguments are our
// bugs, launch failures throw Error. Tensors are device memory.
#pragma once

#include <cuda.h>
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
/// out = epilogue(from + bias); for products of libraries that do neither. `from` may be `out`.
void finish_linear(cudaStream_t stream, const Tensor& from, const Tensor& out, const Tensor& bias,
                   const Epilogue& epilogue);
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

// quantize_fp8.cu
/// Rows of activations as e4m3 and f32 scales: of a row (group 0), or of each 128 values, [cols / 128, rows].
struct Fp8Rows {
  uint8_t* codes;  // [rows, cols]
  float* scales;
  int rows;
  int group;
};
bool quantizes_fp8(const Tensor& x);
void quantize_fp8(cudaStream_t stream, const Tensor& x, const Fp8Rows& out);
/// The norm (after residual += x, where one is given) and the gated activation; the result as it is goes to `plain`,
/// unless null.
void norm_quantize_fp8(cudaStream_t stream, const Tensor* residual, const Tensor& x, const Norm& norm,
                       const Tensor* plain, const Fp8Rows& out);
void gate_quantize_fp8(cudaStream_t stream, const Tensor& gate_up, Activation activation, const Tensor* plain,
                       const Fp8Rows& out);

// gemv_fp8.cu: one row, bf16, times fp8 weights with their scales apart.
void gemv_fp8(cudaStream_t stream, std::span<const LinearCall> calls);

// dequantize.cu: rows [begin, begin + count) of a weight matrix as bf16 [count, k].
void dequantize(cudaStream_t stream, const Linear& linear, bool planar, int64_t begin, int64_t count, void* out);

// What follows is correct and parallel, and not tuned (docs/cuda.md): ops of ops/ops.h that few models need.

// elementwise.cu; x may be out
void norm_variant(cudaStream_t stream, const Tensor& x, const Norm& norm, const Tensor& out);
void activate(cudaStream_t stream, const ActArgs& args, const Tensor& x, const Tensor& out);
void gate(cudaStream_t stream, const Tensor& x, const Tensor& gate, Activation activation);
void scale(cudaStream_t stream, const Tensor& x, const Tensor& vector, float alpha, const Tensor& out);
void add_vector(cudaStream_t stream, const Tensor& x, const Tensor& vector);
void clamp(cudaStream_t stream, const Tensor& x, float limit);
void add_positions(cudaStream_t stream, const StepInput& input, const Tensor& table, int64_t offset,
                   const Tensor& residual);
void mix(cudaStream_t stream, const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out);
void decay(cudaStream_t stream, const DecayArgs& args, const Tensor& a, const Tensor& decay);

// route.cu
void route(cudaStream_t stream, const RouteArgs& args, const StepInput& input, const Tensor& logits,
           const Routing& routing);

// experts.cu: a pair is a row and one of its experts, numbered row * top_k + which.
/// One expert's matrix on the device.
struct ExpertWeights {
  const uint8_t* w;
  const float* bias;  // null: none
  float alpha;
  const float* scales;  // of fp8 weights that keep them apart
};
/// The matrices of all experts, of one shape and layout.
struct ExpertPart {
  LinearShape shape;
  const ExpertWeights* experts = nullptr;  // on the device
  bool planar = false;
  bool wide = false;                  // all begin at multiples of 16 bytes
  const CUtensorMap* maps = nullptr;  // of each, on the device: boxes of 64 by 64; where expert_tiles.cu is used
};
/// The three of a layer; gate.shape.n is 0 where there is none, or `up` holds it.
struct ExpertParts {
  ExpertPart gate, up, down;
};
/// Pairs by expert, and the items that blocks take.
struct PairGroups {
  int64_t pairs = 0, experts = 0;
  int64_t most_items = 0;
  int64_t item_slots = 0;  // at least most_items, and never fewer for more pairs
  int rows_of_item = 0;
  Tensor order;      // i32 [pairs]
  Tensor items;      // i32 [item_slots, 4]
  Tensor count;      // i32 [1]
  Tensor workspace;  // i32 [group_workspace], if not 0
};
/// How pairs are multiplied: by expert_tiles.cu, or by experts.cu; kMatrices: all rows are bf16, of whole 16 bytes, and
/// begin at multiples of 16.
enum class PairProducts { kTiles, kMatrices, kAny };
PairGroups plan_pair_groups(int64_t pairs, int64_t experts, PairProducts products);
// group_pairs.cu
int64_t group_workspace(int64_t pairs, int64_t experts);
void group_pairs(cudaStream_t stream, const PairGroups& groups, const Tensor& ids);
// router.cu
/// What comes before a routing, and after it: residual += delta, normed = norm(residual), logits = router . normed; and
/// the groups of its pairs.
struct RouterCall {
  Tensor residual, delta;
  Norm norm;
  Tensor normed;
  const Linear* router = nullptr;  // null: none of this
  PairGroups groups;               // pairs 0: they are not grouped
  int* arrived = nullptr;          // on the device, zero; left zero
};
/// Few rows of the usual types.
bool router_supports(const RouterCall& call, const RouteArgs& args, const Tensor& logits);
void router(cudaStream_t stream, const RouterCall& call, const RouteArgs& args, const StepInput& input,
            const Tensor& logits, const Routing& routing);

// experts.cu
/// out[pair] = product of the pair's expert with its row of x (a row a pair, or a row for each `top_k` pairs), times
/// factors[pair] if present (before bias).
void multiply_experts(cudaStream_t stream, const ExpertPart& part, const PairGroups& groups, const Tensor& x,
                      const Tensor& factors, const Tensor& out);
/// What may follow a sum: residual += it, out = norm(residual); out absent: nothing.
struct AddedNorm {
  Tensor residual;
  Norm norm;
  Tensor out;
};
bool combine_supports(const Tensor& results, const Tensor& out, const AddedNorm& then);
/// out[row] = the sum over its pairs of weight * results[pair]; weights absent: 1. Then `then`, if it is supported.
void combine_experts(cudaStream_t stream, const PairGroups& groups, const Tensor& results, const Routing& routing,
                     const Tensor& out, const AddedNorm& then);

// expert_tiles.cu: bf16 weights, rows and results, all of whole 16 bytes; no biases.
/// Pairs of an item, of one expert, for so many of all.
int expert_tile_pairs(int64_t pairs, int64_t experts);
/// active[i] = act(gate . x) * (up . x) of the i-th pair in order. `gate` without maps: `up` holds gate|up.
void expert_tiles_up(cudaStream_t stream, const ExpertParts& parts, const PairGroups& groups, const Tensor& x,
                     Activation activation, const Tensor& active, int sms);
/// results[pair] = down . active[its place in order].
void expert_tiles_down(cudaStream_t stream, const ExpertPart& down, const PairGroups& groups, const Tensor& active,
                       const Tensor& results, int sms);

// qkv_variant.cu, attention_variant.cu
void qkv_variant(cudaStream_t stream, const QkvArgs& args, const StepInput& input, const Tensor& qkv, const KvView& kv,
                 const Tensor& q);
void latent_store(cudaStream_t stream, const LatentArgs& args, const StepInput& input, const Tensor& queries,
                  const Tensor& kv, const KvView& view, const Tensor& q);
struct VariantPlan {
  int splits = 1;              // parts of each row's keys
  int64_t partial_floats = 0;  // workspace
};
VariantPlan plan_variant_attention(const AttnArgs& args, const StepInput& input, const KvView& kv, int sms);
void attention_variant(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                       const KvView& kv, const Tensor& out, int splits, float* partials);

// select.cu. `scores`: f32 workspace [rows at once, at least max_kv_len].
void select(cudaStream_t stream, const SelectArgs& args, const StepInput& input, const Tensor& q, const Tensor& weights,
            const KvView& keys, const Tensor& selected, const Tensor& scores);

// recurrent.cu
void causal_conv(cudaStream_t stream, const ConvArgs& args, const StepInput& input, const Tensor& x,
                 const KvView& state);
void recurrence(cudaStream_t stream, const RecurrenceArgs& args, const StepInput& input, const RecurrenceInputs& in,
                const KvView& state, const Tensor& out);
void selective_scan(cudaStream_t stream, const ScanArgs& args, const StepInput& input, const ScanInputs& in,
                    const KvView& state, const Tensor& out);
void rg_lru(cudaStream_t stream, const LruArgs& args, const StepInput& input, const Tensor& x, const Tensor& input_gate,
            const Tensor& decay_gate, const KvView& state);
void token_shift(cudaStream_t stream, const StepInput& input, const Tensor& x, const KvView& state, int64_t offset,
                 const Tensor& out);
void wkv4(cudaStream_t stream, const WkvArgs& args, const StepInput& input, const Tensor& k, const Tensor& v,
          const KvView& state, const Tensor& out);

}  // namespace baize::cuda
