// AltUp's residual streams, side by side in one tensor.
#include "base/mutate.h"
#include "model/blocks/blocks.h"

namespace baize {

namespace {

constexpr float kLeastSquare = 1e-5f;

// How the streams mix, by what one of them holds.
Tensor weights_of(const AltUpBlock& block, const Linear& linear, Ops& ops, const Tensor& x) {
  const Tensor normed = ops.temp(ops.precision().act, x.shape);
  const Tensor routed = ops.temp(normed.dtype, {x.shape[0], block.router.shape.n});
  const Tensor weights = ops.temp(normed.dtype, {x.shape[0], linear.shape.n});
  ops.norm(x, block.norm, normed);
  ops.linear({&block.router, 1}, normed, routed);
  ops.activate({.kind = Activation::kTanh}, routed, routed);
  ops.linear({&linear, 1}, routed, weights);
  return weights;
}

}  // namespace

void widen(std::span<const Linear> matrices, Ops& ops, const Tensor& x, const Tensor& streams) {
  const int64_t width = x.shape[1];
  const Ops::Scope scope(ops);
  const Tensor read = ops.temp(ops.precision().act, x.shape);
  ops.scale(x, {}, 1, read);
  ops.scale(x, {}, 1, streams.columns(0, width));
  for (size_t i = 0; i < matrices.size(); ++i) {
    const Tensor stream = streams.columns(static_cast<int64_t>(i + 1) * width, width);
    ops.linear({&matrices[i], 1}, read, stream);
    if (!mutated("altup.magnitude")) ops.match_rms(stream, x, kLeastSquare);
  }
}

void narrow(std::span<const Linear> matrices, Ops& ops, const Tensor& streams, const Tensor& x) {
  const int64_t width = x.shape[1];
  const Ops::Scope scope(ops);
  const Tensor read = ops.temp(ops.precision().act, x.shape), stream = ops.temp(x.dtype, x.shape);
  const Tensor first = streams.columns(0, width);
  ops.scale(first, {}, 1, x);
  for (size_t i = 0; i < matrices.size(); ++i) {
    ops.scale(streams.columns(static_cast<int64_t>(i + 1) * width, width), {}, 1, read);
    ops.linear({&matrices[i], 1}, read, stream);
    ops.match_rms(stream, first, kLeastSquare);
    if (!mutated("altup.mean")) ops.add(x, stream);
  }
  ops.scale(x, {}, 1 / static_cast<float>(matrices.size() + 1), x);
}

void predict(const AltUpBlock& block, int64_t active, Ops& ops, const Tensor& streams, const Tensor& predicted) {
  const int64_t count = block.router.shape.n, width = streams.shape[1] / count;
  const Ops::Scope scope(ops);
  const Tensor x = ops.temp(streams.dtype, {streams.shape[0], width});
  ops.scale(streams.columns(active * width, width), {}, 1, x);
  ops.mix_streams(streams, count, weights_of(block, block.predict, ops, x), predicted);
}

void correct(const AltUpBlock& block, int64_t active, Ops& ops, const Tensor& x, const Tensor& streams) {
  const int64_t width = x.shape[1];
  const Ops::Scope scope(ops);
  const Tensor change = ops.temp(x.dtype, x.shape), spread = ops.temp(streams.dtype, streams.shape);
  ops.scale(streams.columns(active * width, width), {}, -1, change);
  ops.add(change, x);
  ops.mix_streams(change, 1, weights_of(block, block.correct, ops, x), spread);
  ops.add(streams, spread);
}

}  // namespace baize
