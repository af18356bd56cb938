// Sampler: turns a request's sampling parameters into the arguments of each draw: the part of the sequence that the
// penalties see, the biases in force, the position. Owned by the engine, one a request; the engine thread only.
#pragma once

#include <vector>

#include "engine/request.h"
#include "engine/sequence.h"

namespace baize {

class Sampler {
 public:
  /// `request` must outlive it.
  explicit Sampler(const GenRequest& request);

  /// Arguments for drawing the token behind the last one of `sequence`, which begins with the request's prompt. Views
  /// into the sequence and this object: valid until either changes.
  SampleRow row(const Sequence& sequence) const;

 private:
  const GenRequest& request_;
  std::vector<LogitBias> biased_;  // the request's biases, then -infinity for every stop id
};

}  // namespace baize
