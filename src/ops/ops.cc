#include "ops/ops.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace baize {

void Ops::begin_step(const StepInput& input) {
  BAIZE_CHECK(input_ == nullptr);
  input_ = &input;
  do_begin_step();
}

void Ops::end_step() {
  BAIZE_CHECK(input_ != nullptr);
  do_end_step();
  input_ = nullptr;
  arena_.release(0);
  if (dry()) cost_.arena_bytes = std::max(cost_.arena_bytes, arena_.peak());
}

void Ops::abandon_step() {
  input_ = nullptr;
  arena_.release(0);
}

Tensor Ops::temp(DType dtype, const Shape& shape) {
  return Tensor(arena_.allocate(shape.elements() * dtype_bytes(dtype)), dtype, shape, arena_.place());
}

void Ops::embed(const Embed& table, const Tensor& out) {
  BAIZE_DCHECK(out.shape[0] == input().rows && out.shape[1] == table.shape.k);
  if (dry()) cost_.weight_bytes += input().rows * table.shape.format.row_bytes(table.shape.k);
  do_embed(table, out);
}

void Ops::linear(std::span<const Linear> parts, const Tensor& x, const Tensor& out, const Epilogue& epilogue) {
  constexpr size_t kMaxParts = 4;
  BAIZE_CHECK(!parts.empty() && parts.size() <= kMaxParts);
  const int64_t m = x.shape[0];
  std::array<LinearCall, kMaxParts> calls;
  int64_t column = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const LinearShape& shape = parts[i].shape;
    BAIZE_DCHECK(shape.k == x.shape[1]);
    calls[i] = {&parts[i], x, out.columns(column, shape.n), epilogue};
    column += shape.n;
    if (dry()) {
      cost_.flops += 2 * m * shape.n * shape.k;
      cost_.weight_bytes += shape.n * shape.format.row_bytes(shape.k);
    }
  }
  BAIZE_DCHECK(column == out.shape[1]);
  // Runs of parts with the same kernel go together, so that it prepares x once.
  for (size_t begin = 0; begin < parts.size();) {
    const LinearKernel& kernel = parts[begin].kernel(m);
    size_t end = begin;
    int64_t workspace = 0;
    for (; end < parts.size() && &parts[end].kernel(m) == &kernel; ++end) {
      workspace = std::max(workspace, kernel.workspace(parts[end].shape, m));
    }
    const Scope scope(*this);
    void* memory = workspace > 0 ? temp(DType::kU8, {workspace}).data : nullptr;
    do_linear(std::span(calls).subspan(begin, end - begin), memory);
    begin = end;
  }
}

void Ops::norm(const Tensor& x, const Norm& norm, const Tensor& out) { do_norm(x, norm, out); }

void Ops::add(const Tensor& residual, const Tensor& x) { do_add(residual, x); }

void Ops::add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) {
  do_add_norm(residual, x, norm, out);
}

void Ops::do_add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) {
  do_add(residual, x);
  do_norm(residual, norm, out);
}

void Ops::gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) {
  BAIZE_DCHECK(gate_up.shape[1] == 2 * out.shape[1]);
  do_gated_activation(gate_up, activation, out);
}

void Ops::qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) {
  const AttnShape& s = args.shape;
  BAIZE_DCHECK(qkv.shape[1] == (s.heads + 2 * s.kv_heads) * s.head_dim);
  if (dry()) cost_.cache_bytes += input().rows * s.kv_heads * s.head_dim * 2 * dtype_bytes(kv.k.dtype);
  do_qk_norm_rope_store(args, qkv, kv, q);
}

void Ops::attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) {
  if (dry()) {
    const AttnShape& s = args.shape;
    const int64_t seen = args.window > 0 ? std::min(args.window, input().max_kv_len) : input().max_kv_len;
    cost_.flops += 4 * input().rows * s.heads * s.head_dim * seen;
    cost_.cache_bytes += input().seqs * seen * s.kv_heads * s.head_dim * 2 * dtype_bytes(kv.k.dtype);
  }
  do_attention(args, q, kv, out);
}

void Ops::gather_out_rows(const Tensor& x, const Tensor& out) { do_gather_out_rows(x, out); }

void Ops::sample(const SampleArgs& args, const Tensor& logits) { do_sample(args, logits); }

void Ops::do_sample(const SampleArgs& args, const Tensor& logits) {
  if (!dry()) sample_on_host(args, logits);
}

}  // namespace baize
