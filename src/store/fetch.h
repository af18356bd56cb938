// Fetching one file over HTTP into the blob store: resumed where an earlier try stopped, tried again when the
// connection breaks, and believed only as far as sizes, ranges and the digest agree. One thread; safe beside other
// processes.
#pragma once

#include <cstdint>
#include <string>

#include "store/blobs.h"
#include "store/http.h"
#include "store/manifest.h"
#include "store/progress.h"

namespace baize::store {

struct RetryPolicy {
  int retries = 5;           // tries without progress before giving up
  double first_delay = 0.5;  // seconds before the first new try; doubles each time
  double longest_delay = 30;
};

struct FetchContext {
  const Layout& layout;
  HttpClient& http;
  Progress& progress;
  RetryPolicy retry;
  bool reached = false;  // some server has answered during this pull
};

struct FetchJob {
  std::string file;  // path in the model
  HttpRequest request;
  std::string sha256;                   // expected digest; empty when nobody told
  int64_t bytes = -1;                   // expected size; -1 when nobody told
  const ModelFile* previous = nullptr;  // the file as the last pull got it, its blob intact; asked whether it changed
  int index = 1, count = 1;             // place among the model's files
};

/// Returns the file's blob, fetching what is missing. Throws Error: kNetwork (what the server did wrong), kResource
/// (disk), kIo, kCancelled. After an error the partial stays for the next try, unless its bytes are known to be wrong.
ModelFile fetch_file(FetchContext& context, const FetchJob& job);

/// Runs `request` for a small text with the same patience.
std::string fetch_text(FetchContext& context, const HttpRequest& request);

/// Throws HttpError when the first bytes of `file` show a web page, or a .gguf without the GGUF magic.
void check_beginning(const std::string& file, std::string_view beginning, std::string_view sender);

}  // namespace baize::store
