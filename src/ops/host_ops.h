// HostOps: the rarer ops in plain C++ for backends whose tensors lie in host memory: the reference's definition of
// them, and the CPU's, which threads them through `over`. Activations are f32. Common ops are left to the backends.
// Used by one thread at a time.
#pragma once

#include <functional>

#include "ops/ops.h"

namespace baize {

class HostOps : public Ops {
 public:
  using Ops::Ops;

 protected:
  /// Runs body(begin, end) over parts of [0, count), whose items cost about `cost` multiply-adds each. One thread here.
  virtual void over(int64_t count, int64_t cost, const std::function<void(int64_t, int64_t)>& body);

  /// What `select` keeps: the `count` best of scores, in ascending order; of equal ones the first.
  virtual void keep_best(const std::vector<float>& scores, int64_t count, std::vector<int32_t>& best) const;

  void do_norm_variant(const Tensor& x, const Norm& norm, const Tensor& out) override;
  void do_activate(const ActArgs& args, const Tensor& x, const Tensor& out) override;
  void do_gate(const Tensor& x, const Tensor& gate, Activation activation) override;
  void do_scale(const Tensor& x, const Tensor& vector, float alpha, const Tensor& out) override;
  void do_add_vector(const Tensor& x, const Tensor& vector) override;
  void do_clamp(const Tensor& x, float limit) override;
  void do_match_rms(const Tensor& x, const Tensor& like, float floor) override;
  void do_mix_streams(const Tensor& x, int64_t from, const Tensor& weights, const Tensor& out) override;
  void do_add_positions(const Tensor& table, int64_t offset, const Tensor& residual) override;
  void do_qkv_variant(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) override;
  void do_attention_variant(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) override;
  void do_latent_store(const LatentArgs& args, const Tensor& queries, const Tensor& kv, const KvView& view,
                       const Tensor& q) override;
  void do_compress(const CompressArgs& args, const Tensor& x, const KvView& recent, const KvView& entries) override;
  void do_hyper_read(const HyperArgs& args, const Tensor& x, const Tensor& logits, const Tensor& read,
                     const Tensor& weights) override;
  void do_hyper_write(const HyperArgs& args, const Tensor& x, const Tensor& given, const Tensor& weights) override;
  void do_select(const SelectArgs& args, const Tensor& q, const Tensor& weights, const KvView& keys,
                 const Tensor& selected) override;
  void do_route(const RouteArgs& args, const Tensor& logits, const Routing& routing) override;
  void do_experts(const Experts& experts, const Tensor& x, const Routing& routing, const Tensor& out) override;
  void do_causal_conv(const ConvArgs& args, const Tensor& x, const KvView& state) override;
  void do_decay(const DecayArgs& args, const Tensor& a, const Tensor& decay) override;
  void do_recurrence(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& state,
                     const Tensor& out) override;
  void do_selective_scan(const ScanArgs& args, const ScanInputs& in, const KvView& state, const Tensor& out) override;
  void do_rg_lru(const LruArgs& args, const Tensor& x, const Tensor& input_gate, const Tensor& decay_gate,
                 const KvView& state) override;
  void do_token_shift(const Tensor& x, const KvView& state, int64_t offset, const Tensor& out) override;
  void do_mix(const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out) override;
  void do_wkv4(const WkvArgs& args, const Tensor& k, const Tensor& v, const KvView& state, const Tensor& out) override;

 private:
  void recurrence_in_blocks(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& state,
                            const Tensor& out);
  struct ExpertTemps;
  void run_expert(const Experts& experts, size_t expert, int64_t rows, const ExpertTemps& temps);
};

}  // namespace baize
