// LoadStream: reads the body of one answer to a completion request, streamed (server-sent events) or whole, in pieces
// as they come. It is made for very many tokens a second: an event is only searched for the keys that tell whether it
// carries text; JSON is parsed where an event says anything else. Pure; one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "apps/load_result.h"

namespace baize::apps {

class LoadStream {
 public:
  LoadStream(bool chat, bool streamed, LoadResult& result) : chat_(chat), streamed_(streamed), result_(result) {}

  /// The next bytes, which came so many microseconds after the request was sent.
  void feed(std::string_view bytes, uint32_t now_us);
  /// The body is over: decides whether the answer was whole, and reads what the server counted. The result's state
  /// becomes kOk or kFailed.
  void finish();

 private:
  void line(std::string_view text, uint32_t now_us);
  void event(std::string_view json, uint32_t now_us);
  void rare_event(std::string_view json);
  void read_usage(std::string_view json);
  void read_whole();
  void fail_with(const char* failure, std::string sentence);

  const bool chat_, streamed_;
  LoadResult& result_;
  std::string partial_;  // the beginning of a line; the body that is not streamed
  std::string usage_;    // the last event that has any
  bool done_ = false;    // [DONE] or a finish reason came
};

/// The sentence of an error body in any of the usual shapes, else its beginning; one line.
std::string error_sentence(std::string_view body);

}  // namespace baize::apps
