// Which files of a repository or folder make a model: safetensors with their config and tokenizer, or one GGUF file.
// Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace baize::store {

struct RemoteFile {
  std::string path;  // relative, safe (source.h)
  int64_t bytes = -1;
  std::string sha256;  // empty when the listing does not say
};

/// The files to take of `all`. `wanted` names one file (all parts when it is a split GGUF), or by a part of its name
/// the only GGUF it fits ("Q4_K_M"); empty takes the whole model: the safetensors of the top folder with every small
/// text file a loader reads (no .bin or .pt copies), or the only GGUF. `where` names the repository or folder for
/// messages. Throws Error(kNotFound, kInvalidArgument, kUnsupported) listing what could be asked for.
std::vector<RemoteFile> choose_files(const std::vector<RemoteFile>& all, std::string_view wanted,
                                     std::string_view where);

}  // namespace baize::store
