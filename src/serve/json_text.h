// JSON written straight into a string: what is sent for every token is too frequent for a document in between. Any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.h"

namespace baize::serve {

/// `text` in quotes. Bytes that are not valid UTF-8 become U+FFFD.
void append_json(std::string& out, std::string_view text);
/// The inside of the quotes of valid UTF-8.
void append_escaped(std::string& out, std::string_view text);

/// A log probability; -infinity, which JSON lacks, becomes -9999.
void append_logprob(std::string& out, float value);

/// [1,2,3]
void append_ids(std::string& out, const Token* ids, size_t count);

}  // namespace baize::serve
