#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/mutate.h"
#include "model/binder.h"
#include "model/family.h"
#include "model/rope.h"
#include "ops/dequant.h"

namespace baize {

int64_t LinearParts::n() const {
  int64_t total = 0;
  for (const Linear& linear : span()) total += linear.shape.n;
  return total;
}

std::string layer_name(const std::string& name, int64_t layer) {
  return layer < 0 ? name : fmt::format("layers.{}.{}", layer, name);
}

Binder::Binder(std::shared_ptr<const Checkpoint> checkpoint, const ModelSpec& spec, Backend& backend,
               const BindOptions& options)
    : names_(*checkpoint, find_family(Meta(*checkpoint)).stored, options.dry),
      backend_(backend),
      options_(options),
      store_(backend, options.dry, options.bytes),
      derived_(options.dry) {
  names_.record(options.found);
  model_->spec = spec;
  model_->precision = backend.precision(options.compute);
  model_->checkpoint = std::move(checkpoint);
}

const SourceTensor& Binder::checked(const SourceTensor& tensor, const Shape& shape) const {
  if (tensor.shape == shape || names_.give_shape(tensor, shape)) return tensor;
  fail(ErrorKind::kCorrupt, "{}: tensor {} has shape {}, but the configuration asks for {}", model_->checkpoint->path(),
       tensor.name, tensor.shape.to_string(), shape.to_string());
}

std::vector<float> Binder::floats(const SourceTensor& tensor) const {
  std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
  if (values.empty() && model_->checkpoint->dummy() != nullptr) {
    fail(ErrorKind::kUnsupported, "{}: no dummy is made of {}: its shape is known from files only",
         model_->checkpoint->path(), tensor.name);
  }
  if (options_.dry) return values;
  if (tensor.rows != nullptr) {
    fail(ErrorKind::kUnsupported, "{}: tensor {} is stored as {}, which Baize reads only in matrices",
         model_->checkpoint->path(), tensor.name, tensor.format.name());
  }
  dequantize_row(tensor.format, tensor.bytes.data(), tensor.shape.elements(), values.data());
  return values;
}

std::vector<float> Binder::vector(const std::string& name, int64_t dim, int64_t layer) {
  const SourceTensor* tensor = names_.find(name, layer);
  if (tensor == nullptr) return {};
  if (tensor->shape.elements() != dim) checked(*tensor, {dim});
  return floats(*tensor);
}

Tensor Binder::small(const std::vector<float>& values) { return values.empty() ? Tensor() : store_.small(values); }

std::vector<float> Binder::bias_of(const std::string& name, int64_t n, const Place& place) {
  const int64_t stored = place.stored_n > 0 ? place.stored_n : n;
  const SourceTensor* tensor = names_.find(place.bias.empty() ? name + ".bias" : place.bias, place.layer, place.expert);
  if (tensor == nullptr || mutated("linear.bias")) return {};
  std::vector<float> all = floats(checked(*tensor, {stored}));
  if (place.rows.empty()) return all;
  std::vector<float> ordered;
  for (const int64_t row : place.rows) ordered.push_back(all[static_cast<size_t>(row)]);
  return ordered;
}

Linear Binder::linear(const std::string& name, int64_t n, int64_t k, const Place& place) {
  const int64_t stored = place.stored_n > 0 ? place.stored_n : n;
  const SourceTensor* tensor = &names_.need(name + ".weight", place.layer, place.expert);
  if (place.transposed) {
    tensor = &derived_.transposed(checked(*tensor, {k, stored}));
  } else {
    checked(*tensor, {stored, k});
  }
  if (!place.rows.empty() && !mutated("linear.row_order")) tensor = &derived_.permuted(*tensor, place.rows);
  return linear_of(*tensor, name, place, bias_of(name, n, place));
}

const SourceTensor& Binder::quantized(const SourceTensor& tensor, const std::string& name) {
  // What chooses (tokens, experts, positions) stays exact; the parts of latent attention are products of one head.
  constexpr std::string_view kStay[] = {"embed",         "head",     "moe.router", "attn.router",
                                        "index.weights", "mla.k_up", "mla.v_up",   "moe.shared.out_gate"};
  constexpr int64_t kLeast = 16;
  const bool floats = tensor.format.scheme == Scheme::kPlain && tensor.shape[0] >= kLeast && tensor.shape[1] >= kLeast;
  const bool stays = std::ranges::find(kStay, name) != std::end(kStay) || name.ends_with("_fn");
  // NOLINTNEXTLINE(bugprone-return-const-ref-from-parameter): the checkpoint owns the tensor
  return options_.quantize == Quantize::kFp8 && floats && !stays ? derived_.quantized(tensor) : tensor;
}

Linear Binder::linear_of(const SourceTensor& stored, const std::string& name, const Place& place,
                         const std::vector<float>& bias) {
  const SourceTensor& tensor = quantized(stored, name);
  const int64_t n = tensor.shape[0], k = tensor.shape[1];
  if (k % tensor.format.block_elems() != 0) {
    fail(ErrorKind::kCorrupt, "{}: tensor {} has rows of {} weights, which {} blocks of {} do not divide",
         model_->checkpoint->path(), tensor.name, k, tensor.format.name(), tensor.format.block_elems());
  }
  Linear linear;
  linear.shape = {tensor.format, n, k};
  linear.alpha = mutated("linear.alpha") ? 1 : place.alpha;
  const Pack* pack = choose_kernels(backend_.linear_kernels(), options_.compute, linear);
  const int64_t before = store_.resident_bytes();
  const WeightStore::Placed placed = store_.matrix(tensor, pack);
  linear.w = placed.w;
  linear.scales = placed.scales;
  if (!bias.empty()) {
    std::vector<float> scaled = bias;
    for (float& b : scaled) b *= linear.alpha;
    linear.bias = store_.small(scaled);
  }
  if (store_.resident_bytes() == before) return linear;  // another linear's too: counted there
  const std::string full = place.expert < 0 ? name : fmt::format("{}.{}", name, place.expert);
  model_->weights.push_back(
      {layer_name(full, place.layer), tensor.name, linear.shape, pack, linear.by_m, store_.resident_bytes() - before});
  return linear;
}

LinearParts Binder::parts(const Fused& fused, int64_t k, int64_t layer) {
  LinearParts result;
  const Place place{.layer = layer, .transposed = model_->spec.transposed};
  if (names_.find(fused.own[0] + ".weight", layer) == nullptr &&
      names_.find(fused.name + ".weight", layer) != nullptr) {
    int64_t n = 0;
    for (const int64_t width : fused.widths) n += width;
    Place whole = place;
    whole.rows = fused.rows;
    result.part[result.count++] = linear(fused.name, n, k, whole);
    return result;
  }
  for (size_t i = 0; i < fused.own.size(); ++i) {
    Place own = place;
    if (i < fused.alphas.size()) own.alpha = fused.alphas[i];
    result.part[result.count++] = linear(fused.own[i], fused.widths[i], k, own);
  }
  return result;
}

void Binder::adapt(std::vector<Adapter>& adapters, const std::string& name, Columns columns, int64_t k,
                   const Place& place) {
  if (place.expert < 0 || mutated("linear.adapter")) return;
  const SourceTensor* down = names_.find(name + ".adapter_down.weight", place.layer, place.expert);
  if (down == nullptr) return;
  const int64_t rank = down->shape.rank() == 2 ? down->shape[0] : 0;
  adapters.push_back({linear(name + ".adapter_down", rank, k, place),
                      linear(name + ".adapter_up", columns.count, rank, place), columns.begin});
}

Norm Binder::norm(const NormSpec& spec, const std::string& name, int64_t dim, int64_t layer) {
  if (!spec.present) return {};
  Norm bound;
  bound.eps = spec.eps;
  bound.center = spec.center && !mutated("norm.center");
  std::vector<float> weight(static_cast<size_t>(dim), 1.0f);
  if (!spec.weightless) weight = floats(checked(names_.need(name + ".weight", layer), {dim}));
  if (spec.plus_one && !mutated("fold.norm_plus_one")) {
    for (float& w : weight) w += 1;
  }
  bound.weight = store_.small(weight);
  if (spec.center && !spec.weightless) bound.bias = small(vector(name + ".bias", dim, layer));
  return bound;
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
  bound.offset = mutated("rope.offset") ? 0 : spec.offset;
  if (spec.kind == RopeSpec::Kind::kDynamic && !mutated("rope.dynamic")) {
    bound.dynamic_factor = spec.factor;
    bound.dynamic_length = spec.original_length;
    bound.theta = spec.theta;
  }
  ropes_.emplace_back(spec, bound);
  return bound;
}

HyperBlock Binder::hyper(const std::string& name, int64_t layer, int64_t sites) {
  const HyperSpec& spec = model_->spec.hyper;
  HyperBlock block;
  if (spec.streams == 1) return block;
  const int64_t logits = spec.streams * (sites < 3 ? sites : 2 + spec.streams);
  block.logits = linear(name + "_fn", logits, spec.streams * hidden(), {.layer = layer});
  block.args.streams = spec.streams;
  block.args.mix_rounds = mutated("hyper.mix") ? 0 : spec.mix_rounds;
  block.args.magnitude = mutated("hyper.magnitude") ? 1 : spec.magnitude;
  block.args.eps = spec.eps;
  block.args.post_eps = spec.post_eps;
  block.args.norm_eps = spec.norm_eps;
  block.args.scale = small(need_vector(name + "_scale.weight", sites, layer));
  block.args.base = small(need_vector(name + "_base.weight", logits, layer));
  return block;
}

BoundSublayer Binder::bind_sublayer(const Sublayer& sub, int64_t own) {
  using Input = Sublayer::Input;
  BoundSublayer bound;
  const int64_t layer = sub.weights_of < 0 ? own : sub.weights_of;
  const auto* mixing = std::get_if<RwkvSpec>(&sub.block);
  const bool feeds = std::holds_alternative<DenseFfn>(sub.block) || std::holds_alternative<MoeFfn>(sub.block) ||
                     (mixing != nullptr && !mixing->time);
  const bool own_input = std::holds_alternative<LayerInputSpec>(sub.block);
  const bool given = sub.input == Input::kStreamAndGiven;
  const bool matrix = std::holds_alternative<MatrixSpec>(sub.block);
  const std::string stem = own_input ? "layer" : matrix ? "matrix" : given ? "given" : feeds ? "ffn" : "attn";
  bound.input = mutated("residual.given") && sub.input != Input::kWithEmbedding ? Input::kStream : sub.input;
  bound.pre = norm(sub.pre, stem + ".norm", (sub.input == Input::kWithEmbedding ? 2 : 1) * hidden(), layer);
  const float scale = mutated("residual.scale") ? 1 : sub.scale;
  std::visit([&](const auto& block) { bound.block = bind_block(block, layer, sub.post.present ? 1 : scale); },
             sub.block);
  bound.post = norm(sub.post, stem + ".post_norm", hidden(), layer);
  if (bound.post.present() && scale != 1) {  // the norm would undo the factor: into its weight
    std::vector<float> weight = floats(names_.need(stem + ".post_norm.weight", layer));
    for (float& w : weight) w = (w + (sub.post.plus_one ? 1.0f : 0.0f)) * scale;
    bound.post.weight = store_.small(weight);
  }
  bound.parallel = sub.parallel && !mutated("residual.parallel");
  bound.from_normed = sub.from_normed && !mutated("residual.from_normed");
  bound.input_scale = sub.with_input && !mutated("residual.with_input") ? scale : 0;
  bound.alpha = mutated("residual.alpha") ? 1 : sub.alpha;
  bound.alphas = small(vector(stem + ".residual.weight", hidden(), layer));
  bound.after = norm(sub.after, stem + ".after", hidden(), layer);
  bound.hyper = hyper(stem + ".hyper", layer, model_->spec.hyper.mix_rounds > 0 ? 3 : 2);
  return bound;
}

namespace {

// Sinusoidal positions (Vaswani et al. 2017) as fairseq lays them out: sines, then cosines.
std::vector<float> sinusoids(int64_t count, int64_t dim) {
  const int64_t half = dim / 2;
  const float step = std::log(10000.0f) / static_cast<float>(half - 1);
  std::vector<float> table(static_cast<size_t>(count * dim));
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(p) * std::exp(-step * static_cast<float>(i));
      table[static_cast<size_t>(p * dim + i)] = std::sin(angle);
      table[static_cast<size_t>(p * dim + half + i)] = std::cos(angle);
    }
  }
  return table;
}

}  // namespace

void Binder::bind_embed_and_head() {
  const Dims& dims = model_->spec.dims;
  const EmbedSpec& spec = model_->spec.embed;
  HeadSpec& head = model_->spec.head;
  const int64_t width = spec.width > 0 ? spec.width : dims.hidden;
  const SourceTensor& table = checked(names_.need("embed.weight"), {dims.vocab, width});
  const SourceTensor* const stored_head = names_.find("head.weight");
  const bool own_head = stored_head != nullptr && !head.tied;
  if (stored_head != nullptr && head.tied) model_->parameters -= stored_head->shape.elements();  // the table once more
  head.tied = !own_head;
  const Place place{.alpha = head.alpha, .bias = "head.bias"};
  model_->head = linear(own_head && !mutated("head.untied") ? "head" : "embed", dims.vocab, width, place);
  if (head.norm.present) {
    model_->head_block.dense = linear("head.dense", dims.hidden, dims.hidden, {});
    model_->head_block.norm = norm(head.norm, "head.norm", dims.hidden, -1);
  }
  if (width != dims.hidden) {
    model_->embed_block.proj = linear("embed.proj", dims.hidden, width, {});
    model_->head_block.proj = linear("head.proj", width, dims.hidden, {});
  }
  model_->embed_block.norm = norm(spec.norm, "embed.norm", dims.hidden, -1);
  model_->head_block.hyper = hyper("head.hyper", -1, 1);
  Tensor& positions = model_->embed_block.positions;
  if (spec.positions == EmbedSpec::Positions::kLearned && !mutated("embed.positions")) {
    const SourceTensor& stored = names_.need("embed.positions.weight");
    if (stored.shape.rank() != 2 || stored.shape[0] < dims.context + spec.position_offset) {
      checked(stored, {dims.context + spec.position_offset, dims.hidden});
    }
    positions =
        store_.small(floats(checked(stored, {stored.shape[0], dims.hidden}))).reshaped({stored.shape[0], dims.hidden});
  } else if (spec.positions == EmbedSpec::Positions::kSinusoidal && !mutated("embed.positions")) {
    const int64_t count = dims.context + spec.position_offset;
    positions = store_.small(sinusoids(count, dims.hidden)).reshaped({count, dims.hidden});
  }

  Embed& embed = model_->embed;
  embed.shape = {table.format, dims.vocab, width};
  embed.alpha = mutated("embed.alpha") ? 1 : spec.alpha;
  const int64_t before = store_.resident_bytes();
  embed.w = store_.table(table);
  if (own_head) {
    model_->weights.push_back({"embed", table.name, embed.shape, nullptr, {}, store_.resident_bytes() - before});
  }
}

// Each layer's own input: (the norm of a projection of the embedding + the layer's table) / sqrt(2). The factors go
// into the projection, which the norm undoes but for its eps, the norm's weight and the table.
void Binder::bind_layer_inputs() {
  const int64_t width = model_->spec.embed.layer_inputs, all = width * static_cast<int64_t>(model_->spec.layers.size());
  if (width == 0) return;
  EmbedBlock& block = model_->embed_block;
  const float half = 1 / std::sqrt(2.0f);
  block.layer_proj = linear("embed.layer_proj", all, hidden(), {.alpha = 1 / std::sqrt(static_cast<float>(hidden()))});
  block.layer_norm = norm(model_->spec.final_norm, "embed.layer_norm", width, -1);
  std::vector<float> weight = floats(names_.need("embed.layer_norm.weight"));
  for (float& w : weight) w *= half;
  block.layer_norm.weight = store_.small(weight);
  const SourceTensor& table = names_.need("embed.layers.weight");
  if (table.shape.rank() != 2 || table.shape[1] != all) checked(table, {model_->spec.dims.vocab, all});
  block.layer_table.shape = {table.format, table.shape[0], all};
  block.layer_table.alpha = half * std::sqrt(static_cast<float>(width));
  block.layer_table.w = store_.table(table);
}

std::unique_ptr<const Model> Binder::bind() {
  bind_embed_and_head();
  bind_layer_inputs();
  bind_streams();
  for (size_t i = 0; i < model_->spec.layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const LayerSpec& spec = model_->spec.layers[i];
    state_of_layer_.push_back(states_);
    BoundLayer& layer = model_->layers.emplace_back();
    for (const Sublayer& sub : spec.sub) layer.sub.push_back(bind_sublayer(sub, index));
    if (spec.scaled) layer.scale = small(vector("layer.scale.weight", 1, index));
    if (model_->spec.altup.streams > 0) layer.altup = altup(index);
  }
  model_->final_norm = norm(model_->spec.final_norm, "final_norm", model_->spec.dims.hidden, -1);
  names_.check_all_used();
  model_->parameters += names_.parameters();
  model_->resident_bytes = store_.resident_bytes();
  model_->buffers = store_.take_buffers();
  model_->tables = store_.take_tables();
  for (Buffer& buffer : derived_.take_buffers()) model_->buffers.push_back(std::move(buffer));
  return std::move(model_);
}

std::unique_ptr<const Model> bind(std::shared_ptr<const Checkpoint> checkpoint, const ModelSpec& spec, Backend& backend,
                                  const BindOptions& options) {
  return Binder(std::move(checkpoint), spec, backend, options).bind();
}

}  // namespace baize
