// OpTimes: what each kind of op costs on the device, for finding what limits a step: with BAIZE_CUDA_TIMES=FILE every
// op runs directly between two events, and the sums by kind and shape are written to FILE at the end, the dearest
// first. Owned by a CudaOps; used by the thread that runs its steps.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "backend/cuda/op_list.h"

namespace baize::cuda {

class OpTimes {
 public:
  /// `path` null: off.
  explicit OpTimes(const char* path) : path_(path == nullptr ? "" : path) {}
  ~OpTimes();
  OpTimes(const OpTimes&) = delete;
  OpTimes& operator=(const OpTimes&) = delete;

  bool on() const { return !path_.empty(); }
  /// Runs the ops of a step and adds up their times.
  void run(cudaStream_t stream, const std::vector<Op>& ops, const std::function<void(const Op&)>& run_op);

 private:
  struct Sum {
    int64_t count = 0;
    bool warm = false;  // the first run has been left out
    double ms = 0;
    int64_t items = 0;  // of experts: stretches of pairs of one, at least one for each that is chosen
  };
  std::string path_;
  std::vector<cudaEvent_t> events_;  // of each op, before and after
  std::vector<int> items_;
  std::map<std::string, Sum> sums_;
};

}  // namespace baize::cuda
