// RefOps: every op as plain scalar loops. Activations are f32; cached keys and values may be any float type, so that
// backends with 16-bit caches can be compared too. Made by RefBackend; used by one thread at a time.
#pragma once

#include <span>

#include "ops/host_ops.h"

namespace baize::ref {

/// Kernels of the reference: one, "ref", for every format, on the stored layout.
std::span<const LinearKernel* const> linear_kernels();

class RefOps : public HostOps {
 public:
  using HostOps::HostOps;

 protected:
  void do_embed(const Embed& table, const Tensor& out) override;
  void do_linear(std::span<const LinearCall> calls, void* workspace) override;
  void do_norm(const Tensor& x, const Norm& norm, const Tensor& out) override;
  void do_add(const Tensor& residual, const Tensor& x) override;
  void do_gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) override;
  void do_qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) override;
  void do_attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) override;
  void do_gather_out_rows(const Tensor& x, const Tensor& out) override;

 private:
  void attend(const AttnArgs& args, int64_t row, int64_t head, const float* query, const KvView& kv, float* out);
  /// Row of `view` that holds token `position` of sequence `seq` for `head`, as an element offset.
  int64_t cache_offset(const Tensor& view, int group, int64_t seq, int64_t position, int64_t head) const;
};

}  // namespace baize::ref
