#include "ops/linear.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace baize {

namespace {

using Choice = std::array<const LinearKernel*, kMRanges>;

// The best kernel of `pack` for each range; returns the sum of priorities, or -1 when a range has none.
int choose_in_pack(std::span<const LinearKernel* const> kernels, const Pack* pack, LinearQuery query, Choice& choice) {
  int total = 0;
  for (int range = 0; range < kMRanges; ++range) {
    query.range = static_cast<MRange>(range);
    const LinearKernel* best = nullptr;
    for (const LinearKernel* kernel : kernels) {
      if (kernel->pack != pack || (best != nullptr && best->priority >= kernel->priority)) continue;
      if (kernel->supports(query)) best = kernel;
    }
    if (best == nullptr) return -1;
    choice[static_cast<size_t>(range)] = best;
    total += best->priority;
  }
  return total;
}

}  // namespace

const Pack* choose_kernels(std::span<const LinearKernel* const> kernels, Compute compute, Linear& linear) {
  std::vector<const Pack*> packs;
  for (const LinearKernel* kernel : kernels) {
    if (std::find(packs.begin(), packs.end(), kernel->pack) == packs.end()) packs.push_back(kernel->pack);
  }
  const Pack* best_pack = nullptr;
  int best_total = -1;
  for (const Pack* pack : packs) {
    Choice choice{};
    const int total = choose_in_pack(kernels, pack, {linear.shape, compute, MRange::kOne}, choice);
    if (total <= best_total) continue;
    best_total = total;
    best_pack = pack;
    linear.by_m = choice;
  }
  if (best_total < 0) {
    fail(ErrorKind::kUnsupported, "no kernel multiplies {} weights of shape [{}, {}] here", linear.shape.format.name(),
         linear.shape.n, linear.shape.k);
  }
  return best_pack;
}

}  // namespace baize
