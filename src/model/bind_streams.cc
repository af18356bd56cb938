// Binding of AltUp: several residual streams, of which the layers compute one.
#include "base/mutate.h"
#include "model/binder.h"

namespace baize {

void Binder::bind_streams() {
  for (int64_t i = 0; i + 1 < model_->spec.altup.streams; ++i) {
    const Place place{.expert = i};
    model_->embed_block.streams.push_back(linear("embed.stream", hidden(), hidden(), place));
    model_->head_block.streams.push_back(linear("head.stream", hidden(), hidden(), place));
  }
}

AltUpBlock Binder::altup(int64_t layer) {
  const int64_t n = model_->spec.altup.streams;
  AltUpBlock block;
  block.norm = norm(model_->spec.final_norm, "altup.norm", hidden(), layer);
  block.router = linear("altup.router", n, hidden(), {.layer = layer, .alpha = 1 / static_cast<float>(hidden())});
  // Predictions are added to the streams, and corrections to the plain change: hence the ones of the biases.
  std::vector<float> identity(static_cast<size_t>(n * n), 0.0f);
  for (int64_t i = 0; i < n; ++i) identity[static_cast<size_t>(i * n + i)] = 1;
  const std::vector<float> ones(static_cast<size_t>(mutated("altup.correct") ? 0 : n), 1.0f);
  const auto weights = [&](const char* name, int64_t rows, const std::vector<float>& bias) {
    const SourceTensor& stored = names_.need(std::string(name) + ".weight", layer);
    return linear_of(checked(stored, {rows, n}), name, {.layer = layer}, bias);
  };
  block.predict = weights("altup.predict", n * n, mutated("altup.predict") ? std::vector<float>() : identity);
  block.correct = weights("altup.correct", n, ones);
  const std::vector<float> scale = vector("altup.scale.weight", hidden(), layer);
  if (model_->spec.altup.scaled && !mutated("altup.scale")) block.scale = small(scale);
  return block;
}

}  // namespace baize
