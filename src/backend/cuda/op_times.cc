#include "backend/cuda/op_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "backend/cuda/check.h"

namespace baize::cuda {

namespace {

std::string shape_of(const Tensor& t) { return fmt::format("{} x {}", t.shape[0], t.shape.elements() / t.shape[0]); }

struct Name {
  std::string operator()(const EmbedOp& op) const { return "embed " + shape_of(op.out); }
  std::string operator()(const LinearOp& op) const {
    int64_t n = 0;
    for (int i = 0; i < op.count; ++i) n += op.calls[static_cast<size_t>(i)].linear->shape.n;
    const LinearCall& call = op.calls[0];
    return fmt::format("linear {} of {} by {} {}", call.x.shape[0], call.linear->shape.k, n,
                       call.linear->kernel(call.x.shape[0]).name);
  }
  std::string operator()(const NormOp& op) const { return "norm " + shape_of(op.x); }
  std::string operator()(const AddOp& op) const { return "add " + shape_of(op.x); }
  std::string operator()(const AddNormOp& op) const { return "add and norm " + shape_of(op.x); }
  std::string operator()(const GatedOp& op) const { return "gated activation " + shape_of(op.out); }
  std::string operator()(const QkvOp& op) const { return "norm, rotate, store " + shape_of(op.qkv); }
  std::string operator()(const AttentionOp& op) const {
    return fmt::format("attention {}{}", shape_of(op.q),
                       op.tiles ? op.by_rows ? " by tiles and rows" : " by tiles" : "");
  }
  std::string operator()(const GatherOp& op) const { return "gather " + shape_of(op.out); }
  std::string operator()(const RouteOp& op) const { return "route " + shape_of(op.logits); }
  std::string operator()(const ExpertsOp& op) const {
    return fmt::format("experts {} of {} by {}, {} chosen{}", op.groups.pairs, op.groups.experts, op.up.shape.n,
                       op.routing.ids.shape[1], op.tiles ? fmt::format(", tiles of {}", op.groups.rows_of_item) : "");
  }
  std::string operator()(const OtherOp& op) const { return op.name; }
};

}  // namespace

void OpTimes::run(cudaStream_t stream, const std::vector<Op>& ops, const std::function<void(const Op&)>& run_op) {
  while (events_.size() < ops.size() + 1) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event), "make an event");
    events_.push_back(event);
  }
  check(cudaEventRecord(events_[0], stream), "time an op");
  for (size_t i = 0; i < ops.size(); ++i) {
    run_op(ops[i]);
    check(cudaEventRecord(events_[i + 1], stream), "time an op");
  }
  check(cudaStreamSynchronize(stream), "time a step");
  for (size_t i = 0; i < ops.size(); ++i) {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, events_[i], events_[i + 1]), "time an op");
    Sum& sum = sums_[std::visit(Name{}, ops[i])];
    ++sum.count;
    sum.ms += static_cast<double>(ms);
  }
}

OpTimes::~OpTimes() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
  if (sums_.empty()) return;
  std::vector<std::pair<std::string, Sum>> rows(sums_.begin(), sums_.end());
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.ms > b.second.ms; });
  std::ofstream file(path_);
  file << fmt::format("{:>10} {:>8} {:>10}  op\n", "ms", "runs", "us a run");
  for (const auto& [name, sum] : rows) {
    file << fmt::format("{:10.3f} {:8} {:10.2f}  {}\n", sum.ms, sum.count,
                        1e3 * sum.ms / static_cast<double>(sum.count), name);
  }
}

}  // namespace baize::cuda
