// The ops of CudaOps that few models need: each is recorded as an OtherOp, and a step that has one runs directly.
#include <algorithm>
#include <utility>

#include "backend/cuda/check.h"
#include "backend/cuda/cuda_ops.h"

namespace baize::cuda {

namespace {

constexpr int64_t kScoreFloats = int64_t{32} << 20;  // of an indexer's workspace

}  // namespace

void CudaOps::record_other(const char* name, std::function<void(cudaStream_t, const StepInput&)> run) {
  if (!dry()) ops_.emplace_back(OtherOp{std::move(run), name});
}

void CudaOps::do_norm_variant(const Tensor& x, const Norm& norm, const Tensor& out) {
  record_other("norm", [=](cudaStream_t s, const StepInput&) { cuda::norm_variant(s, x, norm, out); });
}

void CudaOps::do_activate(const ActArgs& args, const Tensor& x, const Tensor& out) {
  record_other("activate", [=](cudaStream_t s, const StepInput&) { cuda::activate(s, args, x, out); });
}

void CudaOps::do_gate(const Tensor& x, const Tensor& gate, Activation activation) {
  record_other("gate", [=](cudaStream_t s, const StepInput&) { cuda::gate(s, x, gate, activation); });
}

void CudaOps::do_scale(const Tensor& x, const Tensor& vector, float alpha, const Tensor& out) {
  record_other("scale", [=](cudaStream_t s, const StepInput&) { cuda::scale(s, x, vector, alpha, out); });
}

void CudaOps::do_add_vector(const Tensor& x, const Tensor& vector) {
  record_other("add a vector", [=](cudaStream_t s, const StepInput&) { cuda::add_vector(s, x, vector); });
}

void CudaOps::do_clamp(const Tensor& x, float limit) {
  record_other("clamp", [=](cudaStream_t s, const StepInput&) { cuda::clamp(s, x, limit); });
}

void CudaOps::do_add_positions(const Tensor& table, int64_t offset, const Tensor& residual) {
  record_other("add positions",
               [=](cudaStream_t s, const StepInput& input) { cuda::add_positions(s, input, table, offset, residual); });
}

void CudaOps::do_qkv_variant(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) {
  if (args.rope.offset > 0)
    unsupported("the CUDA backend rotates only the first dimensions of a head: use --backend cpu");
  record_other("norm, rotate, store, variant",
               [=](cudaStream_t s, const StepInput& input) { cuda::qkv_variant(s, args, input, qkv, kv, q); });
}

void CudaOps::do_attention_variant(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) {
  if (args.key_bias.k.present()) unsupported("the CUDA backend has no dynamic attention masks yet: use --backend cpu");
  if (args.entries.k.present()) unsupported("the CUDA backend has no compressed attention yet: use --backend cpu");
  const VariantPlan plan = plan_variant_attention(args, input(), kv, exec_.sms);
  const Scope scope(*this);
  auto* partials = static_cast<float*>(temp(DType::kF32, {plan.partial_floats}).data);
  record_other("attention, variant", [=](cudaStream_t s, const StepInput& in) {
    cuda::attention_variant(s, args, in, q, kv, out, plan.splits, partials);
  });
}

void CudaOps::do_latent_store(const LatentArgs& args, const Tensor& queries, const Tensor& kv, const KvView& view,
                              const Tensor& q) {
  record_other("store latent keys", [=](cudaStream_t s, const StepInput& input) {
    cuda::latent_store(s, args, input, queries, kv, view, q);
  });
}

void CudaOps::do_select(const SelectArgs& args, const Tensor& q, const Tensor& weights, const KvView& keys,
                        const Tensor& selected) {
  if (keys.stride > 0) unsupported("the CUDA backend has no choice among compressed keys yet: use --backend cpu");
  const Scope scope(*this);
  const int64_t longest = std::max<int64_t>(1, input().max_kv_len);
  // Never less for more rows or longer ones: a dry run of the largest step must do for all.
  const int64_t floats = std::max(longest, std::min(kScoreFloats, q.shape[0] * longest));
  Tensor scores = temp(DType::kF32, {floats});
  scores.shape = {floats / longest, longest};
  record_other("select", [=](cudaStream_t s, const StepInput& input) {
    cuda::select(s, args, input, q, weights, keys, selected, scores);
  });
}

void CudaOps::do_causal_conv(const ConvArgs& args, const Tensor& x, const KvView& state) {
  record_other("convolve",
               [=](cudaStream_t s, const StepInput& input) { cuda::causal_conv(s, args, input, x, state); });
}

void CudaOps::do_decay(const DecayArgs& args, const Tensor& a, const Tensor& decay) {
  record_other("decay", [=](cudaStream_t s, const StepInput&) { cuda::decay(s, args, a, decay); });
}

void CudaOps::do_recurrence(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& state,
                            const Tensor& out) {
  if (args.block > 0) unsupported("the CUDA backend has no lightning attention in blocks yet: use --backend cpu");
  record_other("linear attention",
               [=](cudaStream_t s, const StepInput& input) { cuda::recurrence(s, args, input, in, state, out); });
}

void CudaOps::do_selective_scan(const ScanArgs& args, const ScanInputs& in, const KvView& state, const Tensor& out) {
  record_other("scan",
               [=](cudaStream_t s, const StepInput& input) { cuda::selective_scan(s, args, input, in, state, out); });
}

void CudaOps::do_rg_lru(const LruArgs& args, const Tensor& x, const Tensor& input_gate, const Tensor& decay_gate,
                        const KvView& state) {
  record_other("RG-LRU", [=](cudaStream_t s, const StepInput& input) {
    cuda::rg_lru(s, args, input, x, input_gate, decay_gate, state);
  });
}

void CudaOps::do_token_shift(const Tensor& x, const KvView& state, int64_t offset, const Tensor& out) {
  record_other("token shift",
               [=](cudaStream_t s, const StepInput& input) { cuda::token_shift(s, input, x, state, offset, out); });
}

void CudaOps::do_mix(const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out) {
  record_other("mix", [=](cudaStream_t s, const StepInput&) { cuda::mix(s, x, other, share, out); });
}

void CudaOps::do_wkv4(const WkvArgs& args, const Tensor& k, const Tensor& v, const KvView& state, const Tensor& out) {
  record_other("WKV", [=](cudaStream_t s, const StepInput& input) { cuda::wkv4(s, args, input, k, v, state, out); });
}

}  // namespace baize::cuda
