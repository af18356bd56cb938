// LoadClient: sends the requests of a load test to any OpenAI-compatible server and notes when what came back. HTTP/1.1
// with connections kept alive, all on the calling thread, for it shares the machine with the server. Ctrl-C ends a run
// early; a second one ends the process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/load_plan.h"
#include "apps/load_result.h"

namespace baize::apps {

/// "http://HOST:PORT/PREFIX": where the server's /v1/... are; a /v1 that the user wrote behind it is dropped.
struct LoadAddress {
  bool tls = false;
  std::string host, port, prefix;
  std::string url() const;
};

/// Throws Error(kInvalidArgument) where it is no address. "http://" may be missing.
LoadAddress parse_load_address(const std::string& text);

struct LoadRun {
  std::vector<PlannedRequest> plan;
  bool chat = true, streamed = true;
  int64_t concurrency = 0;                        // most requests at a time; 0: no limit
  std::function<std::string(size_t index)> body;  // JSON of a request
  std::function<void(size_t done)> progress;      // a few times a second; may be empty
};

struct LoadAnswer {
  int status = 0;
  std::string body;
};

class LoadClient {
 public:
  /// `timeout` seconds is the longest that any request may take. Throws Error(kNetwork) where the host is unknown.
  LoadClient(LoadAddress address, const std::string& api_key, double timeout);
  ~LoadClient();
  LoadClient(const LoadClient&) = delete;
  LoadClient& operator=(const LoadClient&) = delete;

  /// One GET of `path`, such as "/v1/models". Throws Error(kNetwork) where no answer comes.
  LoadAnswer get(const std::string& path);
  /// One result for each request of the plan, in its order.
  std::vector<LoadResult> run(const LoadRun& run);
  /// Ctrl-C came.
  bool interrupted() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baize::apps
