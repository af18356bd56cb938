// Feed-forwards, dense and of experts.
#include "base/mutate.h"
#include "model/blocks/blocks.h"

namespace baize {

void adapt(std::span<const Adapter> adapters, const Step& step, const Tensor& x, const Tensor& out) {
  for (const auto& [down, up, column] : adapters) {
    const Tensor low = step.ops.temp(x.dtype, {step.input.rows, down.shape.n});
    const Tensor added = step.ops.temp(x.dtype, {step.input.rows, up.shape.n});
    step.ops.linear({&down, 1}, x, low);
    step.ops.linear({&up, 1}, low, added);
    step.ops.add(out.columns(column, up.shape.n), added);
  }
}

void run(const FfnBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const Tensor up = ops.temp(x.dtype, {input.rows, block.gate_up.n()});
  const Tensor active = ops.temp(x.dtype, {input.rows, block.ff});
  ops.linear(block.gate_up.span(), x, up);
  adapt(block.adapters, step, x, up);
  ops.activate(block.activation, up, active);
  if (block.inner_norm.present()) ops.norm(active, block.inner_norm, active);
  ops.linear({&block.down, 1}, active, out);
}

void run(const MatrixBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  Tensor in = x;
  if (block.down.present()) {
    in = step.ops.temp(x.dtype, {step.input.rows, block.down.shape.n});
    step.ops.linear({&block.down, 1}, x, in);
  }
  step.ops.linear({&block.matrix, 1}, in, out);
}

void run(const LayerInputBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const int64_t width = block.gate.shape.n;
  const Tensor gated = ops.temp(x.dtype, {input.rows, width});
  ops.linear({&block.gate, 1}, x, gated);
  ops.activate({.kind = block.activation}, gated, gated);
  ops.gate(gated, layer_inputs.columns(block.column, width), Activation::kIdentity);
  ops.linear({&block.up, 1}, gated, out);
}

void run(const MoeBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const auto normed = [&](const Norm& norm, bool off) {
    if (!norm.present() || off) return x;
    const Tensor own = ops.temp(x.dtype, x.shape);
    ops.norm(stream, norm, own);
    return own;
  };
  const Tensor routed = normed(block.routed_norm, mutated("moe.routed_norm"));
  const Tensor judged = normed(block.router_norm, mutated("moe.router_norm"));
  const Tensor logits = ops.temp(x.dtype, {input.rows, block.router.shape.n});
  const Routing routing{ops.temp(DType::kI32, {input.rows, block.route.top_k}),
                        ops.temp(DType::kF32, {input.rows, block.route.top_k})};
  ops.linear({&block.router, 1}, judged, logits, {.softcap = block.router_softcap});
  ops.route(block.route, logits, routing);
  ops.experts({block.gate, block.up, block.down, block.activation, block.weigh_input}, routed, routing, out);
  if (block.routed_post.present() && !mutated("moe.routed_post")) ops.norm(out, block.routed_post, out);
  if (block.shared.ff > 0 && !mutated("moe.shared")) {
    const Tensor shared = ops.temp(x.dtype, out.shape);
    run(block.shared, step, x, shared);
    if (block.shared_gate.present()) {
      const Tensor gate = ops.temp(x.dtype, {input.rows, 1});
      ops.linear({&block.shared_gate, 1}, x, gate);
      ops.gate(shared, gate, Activation::kSigmoid);
    }
    if (block.shared_post.present() && !mutated("moe.shared_post")) ops.norm(shared, block.shared_post, shared);
    ops.add(out, shared);
  }
  if (block.out_bias.present()) ops.add_vector(out, block.out_bias);
}

}  // namespace baize
