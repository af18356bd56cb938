// How a warp chooses a row's experts from its router's logits. Definition: ops/host_experts.cc.
#pragma once

#include <climits>

#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

inline constexpr int kMostChosen = 32;  // a lane keeps each

using Score = RouteArgs::Score;

struct RouteKernelArgs {
  Mat logits;
  const int* tokens;
  int* ids;
  float* weights;
  const float* bias;
  const int* by_token;
  Score score;
  int top_k, groups, top_groups;
  bool group_by_two, renormalise, softmax_last;
  float norm_min, scale, sparse_mixer;
};

struct Choice {
  float value;
  int index;
};

// The best of the warp's, the lower index of equal ones; index INT_MAX where no lane has one.
__device__ __forceinline__ Choice warp_best(Choice mine) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) {
    const float value = __shfl_xor_sync(~0u, mine.value, o);
    const int index = __shfl_xor_sync(~0u, mine.index, o);
    const bool better = index != INT_MAX &&
                        (mine.index == INT_MAX || value > mine.value || (value == mine.value && index < mine.index));
    if (better) mine = {value, index};
  }
  return mine;
}

// The best of x that comes after `last` in descending order (stable: equal values by their index).
__device__ __forceinline__ Choice next_best(const float* x, int count, int lane, Choice last) {
  Choice best{0, INT_MAX};
  for (int e = lane; e < count; e += 32) {
    const float v = x[e];
    const bool left = last.index < 0 || v < last.value || (v == last.value && e > last.index);
    if (left && (best.index == INT_MAX || v > best.value)) best = {v, e};
  }
  best = warp_best(best);
  if (best.index >= count) best.index = 0;  // no numbers: any will do
  return best;
}

// Experts outside the best groups are no choice. `rank`: memory of a value a group.
__device__ __forceinline__ void keep_best_groups(const RouteKernelArgs& a, int experts, int lane, float* choice,
                                                 float* rank) {
  const int size = experts / a.groups;
  for (int g = lane; g < a.groups; g += 32) {
    float first = -INFINITY, second = -INFINITY;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      const float v = choice[e];
      if (v > first) {
        second = first;
        first = v;
      } else if (v > second) {
        second = v;
      }
    }
    rank[g] = a.group_by_two && size > 1 ? first + second : first;
  }
  __syncwarp();
  for (int e = lane; e < experts; e += 32) {
    const int g = e / size;
    int ahead = 0;
    for (int other = 0; other < a.groups; ++other) {
      ahead += rank[other] > rank[g] || (rank[other] == rank[g] && other < g) ? 1 : 0;
    }
    if (ahead >= a.top_groups) choice[e] = -INFINITY;
  }
  __syncwarp();
}

__device__ __forceinline__ void route_sparse_mixer(const RouteKernelArgs& a, int64_t row, int experts, int lane,
                                                   const float* logits, float* left) {
  for (int k = 0; k < a.top_k; ++k) {
    const Choice top = next_best(left, experts, lane, {0, -1});
    float total = 0;
    for (int e = lane; e < experts; e += 32) {
      const float distance = (top.value - logits[e]) / fmaxf(fabsf(logits[e]), top.value);
      if (left[e] > -INFINITY && !(distance > 2 * a.sparse_mixer)) total += expf(left[e] - top.value);
    }
    total = warp_sum(total);
    __syncwarp();
    if (lane == 0) {
      a.ids[row * a.top_k + k] = top.index;
      a.weights[row * a.top_k + k] = 1.0f / total;
      left[top.index] = -INFINITY;
    }
    __syncwarp();
  }
}

__device__ __forceinline__ void score_all(const RouteKernelArgs& a, int experts, int lane, float* scores) {
  if (a.score == Score::kSoftmax) {
    float top = -INFINITY, total = 0;
    for (int e = lane; e < experts; e += 32) top = fmaxf(top, scores[e]);
    top = warp_max(top);
    for (int e = lane; e < experts; e += 32) total += scores[e] = expf(scores[e] - top);
    total = warp_sum(total);
    for (int e = lane; e < experts; e += 32) scores[e] /= total;
  } else {
    for (int e = lane; e < experts; e += 32) {
      if (a.score == Score::kSigmoid) scores[e] = sigmoid(scores[e]);
      if (a.score == Score::kSqrtSoftplus) scores[e] = sqrtf(softplus(scores[e]));
    }
  }
}

/// Chooses for `row`; scores and choice, in shared memory, both hold its logits (and room for a value a group).
__device__ __forceinline__ void choose_experts(const RouteKernelArgs& a, int64_t row, int lane, float* scores,
                                               float* choice) {
  const int experts = a.logits.cols;
  if (a.sparse_mixer > 0) return route_sparse_mixer(a, row, experts, lane, scores, choice);
  score_all(a, experts, lane, scores);
  __syncwarp();
  int mine = 0;  // the lane-th chosen
  if (a.by_token != nullptr) {
    if (lane < a.top_k) mine = a.by_token[static_cast<int64_t>(a.tokens[row]) * a.top_k + lane];
  } else {
    for (int e = lane; e < experts; e += 32) choice[e] = scores[e] + (a.bias != nullptr ? a.bias[e] : 0.0f);
    __syncwarp();
    if (a.groups > 1 && a.top_groups > 0 && a.top_groups < a.groups) {
      keep_best_groups(a, experts, lane, choice, choice + experts);
    }
    Choice last{0, -1};
    for (int k = 0; k < a.top_k; ++k) {
      last = next_best(choice, experts, lane, last);
      if (lane == k) mine = last.index;
    }
  }
  const bool chooses = lane < a.top_k;
  float weight = chooses ? scores[mine] : 0.0f;
  if (a.softmax_last) {
    const float top = warp_max(chooses ? weight : -INFINITY);
    weight = chooses ? expf(weight - top) : 0.0f;
    weight /= warp_sum(weight);
  }
  const float total = a.norm_min + warp_sum(weight);
  if (!chooses) return;
  a.ids[row * a.top_k + lane] = mine;
  a.weights[row * a.top_k + lane] = weight / (a.renormalise ? total : 1.0f) * a.scale;
}

/// Floats of shared memory of a row.
inline int route_floats(const RouteKernelArgs& a) { return 2 * a.logits.cols + a.groups; }

inline RouteKernelArgs route_args(const RouteArgs& args, const StepInput& input, const Tensor& logits,
                                  const Routing& routing) {
  return {mat(logits),
          static_cast<const int*>(input.ids.data),
          static_cast<int*>(routing.ids.data),
          static_cast<float*>(routing.weights.data),
          args.bias.present() ? static_cast<const float*>(args.bias.data) : nullptr,
          args.by_token.present() ? static_cast<const int*>(args.by_token.data) : nullptr,
          args.score,
          static_cast<int>(args.top_k),
          static_cast<int>(args.groups),
          static_cast<int>(args.top_groups),
          args.group_by_two,
          args.renormalise,
          args.softmax_last,
          args.norm_min,
          args.scale,
          args.sparse_mixer};
}

}  // namespace baize::cuda
