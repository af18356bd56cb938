#include "base/mutate.h"
#include "model/model.h"

namespace baize {

namespace {

struct Step {
  const StepInput& input;
  Ops& ops;
};

// x [rows, hidden] -> out [rows, hidden]
void run(const AttnBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops] = step;
  const AttnShape& s = block.args.shape;
  const KvView& kv = input.kv[block.state];
  const Tensor qkv = ops.temp(x.dtype, {input.rows, block.qkv.n()});
  const Tensor q = ops.temp(x.dtype, {input.rows, s.heads, s.head_dim});
  const Tensor attended = ops.temp(x.dtype, {input.rows, s.heads, s.head_dim});
  ops.linear(block.qkv.span(), x, qkv);
  ops.qk_norm_rope_store(block.qkv_args, qkv, kv, q);
  ops.attention(block.args, q, kv, attended);
  ops.linear({&block.o, 1}, attended.reshaped({input.rows, s.heads * s.head_dim}), out);
}

void run(const FfnBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops] = step;
  const Tensor gate_up = ops.temp(x.dtype, {input.rows, 2 * block.ff});
  const Tensor gated = ops.temp(x.dtype, {input.rows, block.ff});
  ops.linear(block.gate_up.span(), x, gate_up);
  ops.gated_activation(gate_up, block.activation, gated);
  ops.linear({&block.down, 1}, gated, out);
}

}  // namespace

void forward(const Model& model, const StepInput& input, Ops& ops, const StepOutput& output) {
  ops.begin_step(input);
  const DType act = ops.precision().act;
  const Shape wide{input.rows, model.spec.dims.hidden};
  const Tensor residual = ops.temp(ops.precision().residual, wide);
  const Tensor normed = ops.temp(act, wide);
  const Tensor delta = ops.temp(act, wide);  // what the last sublayer adds to the residual, not added yet
  bool pending = false;

  ops.embed(model.embed, residual);
  for (const auto& layer : model.layers) {
    for (const BoundSublayer& sub : layer) {
      const Ops::Scope scope(ops);
      if (pending) {
        ops.add_norm(residual, delta, sub.pre, normed);
      } else {
        ops.norm(residual, sub.pre, normed);
      }
      std::visit([&](const auto& block) { run(block, Step{input, ops}, normed, delta); }, sub.block);
      if (sub.post.present() && !mutated("norm.post")) ops.norm(delta, sub.post, delta);
      pending = true;
    }
  }

  if (input.out_count > 0) {
    ops.add(residual, delta);
    const Shape out_wide{input.out_count, model.spec.dims.hidden};
    const Tensor last = ops.temp(residual.dtype, out_wide);
    const Tensor last_normed = ops.temp(act, out_wide);
    ops.gather_out_rows(residual, last);
    ops.norm(last, model.final_norm, last_normed);
    ops.linear({&model.head, 1}, last_normed, output.logits,
               Epilogue{.softcap = mutated("softcap.logits") ? 0 : model.spec.head.softcap});
  }
  ops.end_step();
}

}  // namespace baize
