#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "base/mutate.h"
#include "model/model.h"
#include "model/names.h"
#include "model/rope.h"
#include "model/weight_store.h"
#include "ops/dequant.h"

namespace baize {

int64_t LinearParts::n() const {
  int64_t total = 0;
  for (const Linear& linear : span()) total += linear.shape.n;
  return total;
}

namespace {

class Binder {
 public:
  Binder(std::shared_ptr<const Checkpoint> checkpoint, const ModelSpec& spec, Backend& backend,
         const BindOptions& options)
      : names_(*checkpoint), backend_(backend), options_(options), store_(backend, options.dry) {
    model_->spec = spec;
    model_->precision = backend.precision(options.compute);
    model_->checkpoint = std::move(checkpoint);
  }

  std::unique_ptr<const Model> bind();

 private:
  void bind_embed_and_head();
  BoundSublayer bind_sublayer(const Sublayer& sub, int64_t layer);
  AttnBlock bind_attention(const AttnSpec& spec, int64_t layer);
  FfnBlock bind_ffn(const DenseFfn& spec, int64_t layer);

  /// `count` linears of the given widths under their own names, or one under the fused name.
  LinearParts parts(std::span<const std::string> own, const std::string& fused, std::span<const int64_t> widths,
                    int64_t layer);
  Linear linear(const std::string& name, int64_t n, int64_t k, int64_t layer);
  Norm norm(const NormSpec& spec, const std::string& name, int64_t dim, int64_t layer);
  Rope rope(const RopeSpec& spec);
  std::vector<float> floats(const SourceTensor& tensor) const;
  const SourceTensor& checked(const SourceTensor& tensor, const Shape& shape) const;

  TensorNames names_;
  Backend& backend_;
  BindOptions options_;
  WeightStore store_;
  std::unique_ptr<Model> model_ = std::make_unique<Model>();
  std::vector<std::pair<RopeSpec, Rope>> ropes_;  // equal specs share one table, so backends can cache by its address
  size_t states_ = 0;
};

const SourceTensor& Binder::checked(const SourceTensor& tensor, const Shape& shape) const {
  if (tensor.shape == shape) return tensor;
  fail(ErrorKind::kCorrupt, "{}: tensor {} has shape {}, but the configuration asks for {}", model_->checkpoint->path(),
       tensor.name, tensor.shape.to_string(), shape.to_string());
}

std::vector<float> Binder::floats(const SourceTensor& tensor) const {
  std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
  if (options_.dry) return values;
  dequantize_row(tensor.format, tensor.bytes.data(), tensor.shape.elements(), values.data());
  return values;
}

std::string layer_name(const std::string& name, int64_t layer) {
  return layer < 0 ? name : fmt::format("layers.{}.{}", layer, name);
}

Linear Binder::linear(const std::string& name, int64_t n, int64_t k, int64_t layer) {
  const SourceTensor& tensor = checked(names_.need(name + ".weight", layer), {n, k});
  if (k % tensor.format.block_elems() != 0) {
    fail(ErrorKind::kCorrupt, "{}: tensor {} has rows of {} weights, which {} blocks of {} do not divide",
         model_->checkpoint->path(), tensor.name, k, tensor.format.name(), tensor.format.block_elems());
  }
  Linear linear;
  linear.shape = {tensor.format, n, k};
  const Pack* pack = choose_kernels(backend_.linear_kernels(), options_.compute, linear);
  const int64_t before = store_.resident_bytes();
  linear.w = store_.matrix(tensor, pack);
  if (const SourceTensor* bias = names_.find(name + ".bias", layer); bias != nullptr && !mutated("linear.bias")) {
    linear.bias = store_.small(floats(checked(*bias, {n})));
  }
  model_->weights.push_back(
      {layer_name(name, layer), tensor.name, linear.shape, pack, linear.by_m, store_.resident_bytes() - before});
  return linear;
}

LinearParts Binder::parts(std::span<const std::string> own, const std::string& fused, std::span<const int64_t> widths,
                          int64_t layer) {
  LinearParts result;
  const int64_t k = model_->spec.dims.hidden;
  if (names_.find(own[0] + ".weight", layer) == nullptr && names_.find(fused + ".weight", layer) != nullptr) {
    int64_t n = 0;
    for (const int64_t width : widths) n += width;
    result.part[result.count++] = linear(fused, n, k, layer);
    return result;
  }
  for (size_t i = 0; i < own.size(); ++i) result.part[result.count++] = linear(own[i], widths[i], k, layer);
  return result;
}

Norm Binder::norm(const NormSpec& spec, const std::string& name, int64_t dim, int64_t layer) {
  if (!spec.present) return {};
  std::vector<float> weight = floats(checked(names_.need(name + ".weight", layer), {dim}));
  if (spec.plus_one && !mutated("fold.norm_plus_one")) {
    for (float& w : weight) w += 1;
  }
  return {store_.small(weight), spec.eps};
}

Rope Binder::rope(const RopeSpec& spec) {
  if (spec.kind == RopeSpec::Kind::kNone) return {};
  for (const auto& [known, bound] : ropes_) {
    if (known == spec) return bound;
  }
  Rope bound;
  bound.inv_freq = store_.small(inverse_frequencies(spec));
  bound.scale = mutated("rope.attention_factor") ? 1 : spec.attention_factor;
  bound.interleaved = spec.interleaved && !mutated("rope.interleaved");
  if (spec.kind == RopeSpec::Kind::kDynamic && !mutated("rope.dynamic")) {
    bound.dynamic_factor = spec.factor;
    bound.dynamic_length = spec.original_length;
    bound.theta = spec.theta;
  }
  ropes_.emplace_back(spec, bound);
  return bound;
}

AttnBlock Binder::bind_attention(const AttnSpec& spec, int64_t layer) {
  const std::array<std::string, 3> own = {"attn.q", "attn.k", "attn.v"};
  const int64_t q = spec.heads * spec.head_dim;
  const int64_t kv = spec.kv_heads * spec.head_dim;
  const std::array<int64_t, 3> widths = {q, kv, kv};
  AttnBlock block;
  block.state = states_++;
  block.qkv = parts(own, "attn.qkv", widths, layer);
  block.o = linear("attn.o", model_->spec.dims.hidden, q, layer);
  block.args.shape = {spec.heads, spec.kv_heads, spec.head_dim};
  block.args.scale = spec.scale;
  block.args.softcap = mutated("softcap.attention") ? 0 : spec.softcap;
  block.args.window = mutated("attention.window") ? 0 : spec.window;
  block.qkv_args.shape = block.args.shape;
  if (!mutated("norm.qk")) {
    block.qkv_args.q_norm = norm(spec.q_norm, "attn.q_norm", spec.head_dim, layer);
    block.qkv_args.k_norm = norm(spec.k_norm, "attn.k_norm", spec.head_dim, layer);
  }
  block.qkv_args.rope = rope(spec.rope);
  return block;
}

FfnBlock Binder::bind_ffn(const DenseFfn& spec, int64_t layer) {
  const std::array<std::string, 2> own = {"ffn.gate", "ffn.up"};
  const std::array<int64_t, 2> widths = {spec.ff, spec.ff};
  FfnBlock block;
  block.gate_up = parts(own, "ffn.gate_up", widths, layer);
  block.down = linear("ffn.down", model_->spec.dims.hidden, spec.ff, layer);
  block.activation = mutated("ffn.activation") ? Activation::kRelu : spec.activation;
  block.ff = spec.ff;
  return block;
}

BoundSublayer Binder::bind_sublayer(const Sublayer& sub, int64_t layer) {
  const int64_t hidden = model_->spec.dims.hidden;
  BoundSublayer bound;
  const bool attention = std::holds_alternative<AttnSpec>(sub.block);
  const std::string stem = attention ? "attn" : "ffn";
  bound.pre = norm(sub.pre, stem + ".norm", hidden, layer);
  if (attention) {
    bound.block = bind_attention(std::get<AttnSpec>(sub.block), layer);
  } else {
    bound.block = bind_ffn(std::get<DenseFfn>(sub.block), layer);
  }
  bound.post = norm(sub.post, stem + ".post_norm", hidden, layer);
  return bound;
}

void Binder::bind_embed_and_head() {
  const Dims& dims = model_->spec.dims;
  const SourceTensor& table = checked(names_.need("embed.weight"), {dims.vocab, dims.hidden});
  const bool own_head = names_.find("head.weight") != nullptr && !model_->spec.head.tied;
  model_->spec.head.tied = !own_head;
  model_->head = linear(own_head && !mutated("head.untied") ? "head" : "embed", dims.vocab, dims.hidden, -1);

  Embed& embed = model_->embed;
  embed.shape = {table.format, dims.vocab, dims.hidden};
  embed.alpha = mutated("embed.alpha") ? 1 : model_->spec.embed.alpha;
  const int64_t before = store_.resident_bytes();
  embed.w = store_.matrix(table, nullptr);
  if (own_head) {
    model_->weights.push_back({"embed", table.name, embed.shape, nullptr, {}, store_.resident_bytes() - before});
  }
}

std::unique_ptr<const Model> Binder::bind() {
  bind_embed_and_head();
  for (size_t i = 0; i < model_->spec.layers.size(); ++i) {
    std::vector<BoundSublayer>& layer = model_->layers.emplace_back();
    for (const Sublayer& sub : model_->spec.layers[i].sub) {
      layer.push_back(bind_sublayer(sub, static_cast<int64_t>(i)));
    }
  }
  model_->final_norm = norm(model_->spec.final_norm, "final_norm", model_->spec.dims.hidden, -1);
  names_.check_all_used();
  model_->resident_bytes = store_.resident_bytes();
  model_->buffers = store_.take_buffers();
  return std::move(model_);
}

}  // namespace

std::unique_ptr<const Model> bind(std::shared_ptr<const Checkpoint> checkpoint, const ModelSpec& spec, Backend& backend,
                                  const BindOptions& options) {
  return Binder(std::move(checkpoint), spec, backend, options).bind();
}

}  // namespace baize
