// Mixtures of experts in HostOps: routing (Shazeer et al. 2017; grouped: DeepSeek-V2/V3 2024), and the experts' linears
// through the backend's own kernels, expert by expert over the rows that chose it.
#include <numeric>

#include "ops/host_math.h"
#include "ops/host_ops.h"

namespace baize {

using host::row_of;

namespace {

using Score = RouteArgs::Score;

void softmax(std::vector<float>& x) {
  const float highest = *std::max_element(x.begin(), x.end());
  float total = 0;
  for (float& v : x) total += v = std::exp(v - highest);
  for (float& v : x) v /= total;
}

std::vector<float> scores_of(const RouteArgs& args, std::vector<float> logits) {
  if (args.score == Score::kSoftmax) softmax(logits);
  for (float& v : logits) {
    if (args.score == Score::kSigmoid) v = host::sigmoid(v);
    if (args.score == Score::kSqrtSoftplus) v = std::sqrt(host::softplus(v));
  }
  return logits;
}

// The `count` best of `choice`, best first; the lower index wins a tie.
std::vector<int32_t> best_of(const std::vector<float>& choice, int64_t count) {
  std::vector<int32_t> order(choice.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return choice[static_cast<size_t>(a)] > choice[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

// Experts outside the best groups are no choice.
void keep_best_groups(const RouteArgs& args, std::vector<float>& choice) {
  const auto size = static_cast<int64_t>(choice.size()) / args.groups;
  std::vector<float> rank;
  for (int64_t g = 0; g < args.groups; ++g) {
    std::vector<float> group(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::sort(group.begin(), group.end(), std::greater<>());
    rank.push_back(args.group_by_two && size > 1 ? group[0] + group[1] : group[0]);
  }
  std::vector<bool> kept(rank.size());
  for (const int32_t g : best_of(rank, args.top_groups)) kept[static_cast<size_t>(g)] = true;
  for (size_t e = 0; e < choice.size(); ++e) {
    if (!kept[e / static_cast<size_t>(size)]) choice[e] = -INFINITY;
  }
}

// SparseMixer (Liu et al. 2023) without noise: each weight is a softmax over the logits near the chosen one.
void route_sparse_mixer(const RouteArgs& args, const std::vector<float>& logits, int32_t* ids, float* weights) {
  std::vector<float> left = logits;
  for (int64_t k = 0; k < args.top_k; ++k) {
    const auto top = std::max_element(left.begin(), left.end());
    const float highest = *top;
    ids[k] = static_cast<int32_t>(top - left.begin());
    float total = 0;
    for (size_t e = 0; e < left.size(); ++e) {
      const float distance = (highest - logits[e]) / std::max(std::abs(logits[e]), highest);
      if (left[e] > -INFINITY && !(distance > 2 * args.sparse_mixer)) total += std::exp(left[e] - highest);
    }
    weights[k] = 1 / total;
    *top = -INFINITY;
  }
}

void route_row(const RouteArgs& args, const std::vector<float>& logits, int64_t token, int32_t* ids, float* weights) {
  if (args.sparse_mixer > 0) return route_sparse_mixer(args, logits, ids, weights);
  const std::vector<float> scores = scores_of(args, logits);
  if (args.by_token.present()) {
    for (int64_t k = 0; k < args.top_k; ++k) ids[k] = args.by_token.as<const int32_t>()[token * args.top_k + k];
  } else {
    std::vector<float> choice = scores;
    if (args.bias.present()) {
      for (size_t e = 0; e < choice.size(); ++e) choice[e] += args.bias.as<const float>()[e];
    }
    if (args.groups > 1 && args.top_groups > 0 && args.top_groups < args.groups) keep_best_groups(args, choice);
    const std::vector<int32_t> best = best_of(choice, args.top_k);
    std::copy(best.begin(), best.end(), ids);
  }
  std::vector<float> chosen;
  for (int64_t k = 0; k < args.top_k; ++k) chosen.push_back(scores[static_cast<size_t>(ids[k])]);
  if (args.softmax_last) softmax(chosen);
  float total = args.norm_min;
  for (const float w : chosen) total += w;
  for (int64_t k = 0; k < args.top_k; ++k) {
    weights[k] = chosen[static_cast<size_t>(k)] / (args.renormalise ? total : 1) * args.scale;
  }
}

}  // namespace

void HostOps::do_route(const RouteArgs& args, const Tensor& logits, const Routing& routing) {
  if (dry()) return;
  const int64_t experts = logits.shape[1];
  for (int64_t r = 0; r < logits.shape[0]; ++r) {
    const float* row = row_of(logits, r);
    const int64_t token = input().ids.as<const int32_t>()[r];
    route_row(args, {row, row + experts}, token, routing.ids.as<int32_t>() + r * args.top_k,
              routing.weights.as<float>() + r * args.top_k);
  }
}

/// Memory of one expert's rows.
struct HostOps::ExpertTemps {
  Tensor in, up, active, out;
  void* workspace;
};

void HostOps::run_expert(const Experts& experts, size_t expert, int64_t rows, const ExpertTemps& temps) {
  if (experts.down.empty()) {
    const LinearCall only{&experts.up[expert], temps.in.rows(0, rows), temps.out.rows(0, rows), {}};
    do_linear({&only, 1}, temps.workspace);
    return;
  }
  const Tensor up = temps.up.rows(0, rows), active = temps.active.rows(0, rows);
  int64_t column = 0;
  for (const std::span<const Linear> part : {experts.gate, experts.up}) {
    if (part.empty()) continue;
    const LinearCall call{&part[expert], temps.in.rows(0, rows), up.columns(column, part[expert].shape.n), {}};
    do_linear({&call, 1}, temps.workspace);
    column += part[expert].shape.n;
  }
  activate(experts.activation, up, active);
  const LinearCall second{&experts.down[expert], active, temps.out.rows(0, rows), {}};
  do_linear({&second, 1}, temps.workspace);
}

void HostOps::do_experts(const Experts& experts, const Tensor& x, const Routing& routing, const Tensor& out) {
  const int64_t rows = x.shape[0], top_k = routing.ids.shape[1], k = x.shape[1], n = out.shape[1];
  const int64_t up = experts.up[0].shape.n + (experts.gate.empty() ? 0 : experts.gate[0].shape.n);
  const int64_t ff = experts.down.empty() ? 0 : experts.down[0].shape.k;
  const Scope scope(*this);
  ExpertTemps temps{temp(DType::kF32, {rows, k}), temp(DType::kF32, {rows, up}), temp(DType::kF32, {rows, ff}),
                    temp(DType::kF32, {rows, n}), nullptr};
  int64_t workspace = 0;
  for (const int64_t m : {int64_t{1}, std::min(rows, kFewRows), rows}) {
    for (const std::span<const Linear> part : {experts.gate, experts.up, experts.down}) {
      for (const Linear& linear : part) workspace = std::max(workspace, linear.kernel(m).workspace(linear.shape, m));
    }
  }
  temps.workspace = temp(DType::kU8, {workspace}).data;
  if (dry()) return;

  const int32_t* ids = routing.ids.as<const int32_t>();
  const float* weights = routing.weights.present() ? routing.weights.as<const float>() : nullptr;
  for (int64_t r = 0; r < rows; ++r) std::fill_n(row_of(out, r), n, 0.0f);
  std::vector<std::pair<int64_t, float>> chosen;  // row, weight
  for (size_t e = 0; e < experts.up.size(); ++e) {
    chosen.clear();
    for (int64_t i = 0; i < rows * top_k; ++i) {
      if (ids[i] != static_cast<int32_t>(e)) continue;
      const float weight = weights != nullptr ? weights[i] : 1.0f;
      const bool again = !chosen.empty() && chosen.back().first == i / top_k;  // a token's table may name one twice
      if (again) {
        chosen.back().second += weight;
      } else {
        chosen.emplace_back(i / top_k, weight);
      }
    }
    if (chosen.empty()) continue;
    for (size_t i = 0; i < chosen.size(); ++i) {
      const float factor = experts.weigh_input ? chosen[i].second : 1;
      const float* from = row_of(x, chosen[i].first);
      float* to = row_of(temps.in, static_cast<int64_t>(i));
      for (int64_t j = 0; j < k; ++j) to[j] = from[j] * factor;
    }
    run_expert(experts, e, static_cast<int64_t>(chosen.size()), temps);
    for (size_t i = 0; i < chosen.size(); ++i) {
      const float factor = experts.weigh_input ? 1 : chosen[i].second;
      const float* from = row_of(temps.out, static_cast<int64_t>(i));
      float* to = row_of(out, chosen[i].first);
      for (int64_t j = 0; j < n; ++j) to[j] += factor * from[j];
    }
  }
}

}  // namespace baize
