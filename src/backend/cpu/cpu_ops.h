// CpuOps: the ops on the processor. Activations are f32, cached keys and values f32 or f16. It cuts each op into pieces
// for the thread pool, or runs it on the calling thread where a parallel region would cost more than it saves; the
// arithmetic is in OpKernels. Results do not depend on the number of threads. Made by CpuBackend; one user at a time.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include <atomic>

#include "backend/cpu/kernels.h"
#include "backend/cpu/thread_pool.h"
#include "ops/ops.h"

namespace baize::cpu {

class CpuOps : public Ops {
 public:
  CpuOps(Precision precision, Arena arena, ThreadPool& pool, const OpKernels& kernels)
      : Ops(precision, std::move(arena)), pool_(pool), kernels_(kernels) {}

 protected:
  void do_begin_step() override;
  void do_embed(const Embed& table, const Tensor& out) override;
  void do_linear(std::span<const LinearCall> calls, void* workspace) override;
  void do_norm(const Tensor& x, const Norm& norm, const Tensor& out) override;
  void do_add(const Tensor& residual, const Tensor& x) override;
  void do_add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) override;
  void do_gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) override;
  void do_qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) override;
  void do_attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) override;
  void do_gather_out_rows(const Tensor& x, const Tensor& out) override;
  void do_sample(const SampleArgs& args, const Tensor& logits) override;

 private:
  /// Cosines and sines of every row of the step, [rows][pairs] each, for one Rope.
  struct RopeTable {
    Rope rope;
    std::vector<float> cosines, sines;
  };
  /// A piece of attention: query rows of one sequence with one key head; see cpu_attention.cc.
  struct AttnItem {
    int64_t seq, kv_head;
    int64_t first_row, rows;
    int64_t first_head, heads;  // query heads, within the group of the key head
    int64_t tile;               // few rows: the key tile; many rows: -1
    int64_t group;              // few rows: index of the item's TileGroup
  };
  /// The items of one (sequence, query heads) whose partial results are combined by whoever finishes last.
  struct TileGroup {
    int64_t first_tile, tiles;
    int64_t partial, end_partial;  // indices of its partials: [tile][row][head]
  };
  struct AttnCall;
  struct QkvCall;

  /// Runs body(row_begin, row_end) over `rows` rows of `width` elements.
  template <typename Body>
  void over_rows(int64_t rows, int64_t width, const Body& body);

  const RopeTable& rope_table(const Rope& rope);
  void fill_rope_table(RopeTable& table);
  void norm_rope_store_row(const QkvCall& call, int64_t r, float* head);
  void store_row(const Tensor& view, int64_t offset, const float* values, int64_t count);

  void plan_attention(const AttnCall& call);
  void plan_few(const AttnCall& call, int64_t seq, int64_t first_row, int64_t rows);
  void plan_many(const AttnCall& call, int64_t seq, int64_t first_row, int64_t rows);
  void run_item(const AttnCall& call, const AttnItem& item, float* scratch);

  ThreadPool& pool_;
  const OpKernels& kernels_;
  std::vector<RopeTable> rope_tables_;  // the first `rope_tables_used_` belong to this step
  size_t rope_tables_used_ = 0;
  std::vector<AttnItem> items_;  // of the attention call being run
  std::vector<TileGroup> groups_;
  std::unique_ptr<std::atomic<int64_t>[]> unfinished_;  // a tile group; [unfinished_size_]
  size_t unfinished_size_ = 0;
  int64_t work_ = 0;  // multiply-adds of the items
};

}  // namespace baize::cpu
