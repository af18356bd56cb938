#include "apps/load_stream.h"

#include <cstring>

#include "base/error.h"
#include "base/json.h"

namespace baize::apps {

namespace {

constexpr size_t kLongestLine = size_t{16} << 20;  // a server that sends more without a line break is no such server
constexpr size_t kLongestSentence = 300;

// What follows each `"key":` in a JSON text, until `found` says yes. Inside a JSON string the quotes of a key would
// have backslashes, so a match of quote, key, quote and colon is a member.
template <typename Found>
bool any_member(std::string_view json, std::string_view quoted_key, Found found) {
  const auto skip_space = [&](size_t at) {
    while (at < json.size() && (json[at] == ' ' || json[at] == '\t')) ++at;
    return at;
  };
  const char* from = json.data();
  const char* const end = json.data() + json.size();
  while (true) {
    const void* hit = memmem(from, static_cast<size_t>(end - from), quoted_key.data(), quoted_key.size());
    if (hit == nullptr) return false;
    from = static_cast<const char*>(hit) + quoted_key.size();
    size_t at = skip_space(static_cast<size_t>(from - json.data()));
    if (at >= json.size() || json[at] != ':') continue;
    at = skip_space(at + 1);
    if (found(json.substr(at))) return true;
  }
}

bool non_empty_string(std::string_view value) { return value.size() > 1 && value[0] == '"' && value[1] != '"'; }
bool any_string(std::string_view value) { return value.starts_with('"'); }
bool object(std::string_view value) { return value.starts_with('{'); }
bool anything(std::string_view) { return true; }

std::string one_line(std::string_view text) {
  std::string line(text.substr(0, kLongestSentence));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  if (text.size() > kLongestSentence) line += "...";
  return line;
}

// OpenAI's {"error": {"message"}}, others' {"error": "..."}, {"message"}, {"detail"}.
std::string message_of(const Json& json) {
  if (!json.is_object()) return {};
  for (const char* key : {"error", "message", "detail"}) {
    const auto found = json.find(key);
    if (found == json.end()) continue;
    if (found->is_string()) return one_line(found->get<std::string>());
    if (found->is_object()) return message_of(*found);
    if (!found->is_null()) return one_line(found->dump());
  }
  return {};
}

int64_t count_of(const Json& object_, const char* key, int64_t otherwise) {
  if (!object_.is_object()) return otherwise;
  const auto found = object_.find(key);
  return found != object_.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

}  // namespace

std::string error_sentence(std::string_view body) {
  std::string said;
  try {
    said = message_of(parse_json(body, "error"));
  } catch (const Error&) {  // an HTML page, plain text
  }
  return said.empty() ? one_line(body) : said;
}

void LoadStream::fail_with(const char* failure, std::string sentence) {
  if (result_.state == LoadResult::kFailed) return;
  result_.state = LoadResult::kFailed;
  result_.failure = failure;
  result_.sentence = std::move(sentence);
}

void LoadStream::feed(std::string_view bytes, uint32_t now_us) {
  if (result_.state == LoadResult::kFailed) return;
  if (partial_.size() + bytes.size() > kLongestLine)
    return fail_with("bad answer", "the answer goes on for 16 MB without a line break");
  if (!streamed_) {
    partial_ += bytes;
    return;
  }
  while (!bytes.empty()) {
    const auto* end = static_cast<const char*>(std::memchr(bytes.data(), '\n', bytes.size()));
    if (end == nullptr) {
      partial_ += bytes;
      return;
    }
    const auto length = static_cast<size_t>(end - bytes.data());
    if (partial_.empty()) {
      line(bytes.substr(0, length), now_us);
    } else {
      partial_ += bytes.substr(0, length);
      line(partial_, now_us);
      partial_.clear();
    }
    bytes.remove_prefix(length + 1);
  }
}

// These servers send each event as one line of data; comments and other fields say nothing to us.
void LoadStream::line(std::string_view text, uint32_t now_us) {
  if (!text.starts_with("data:")) return;
  text.remove_prefix(5);
  while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) text.remove_suffix(1);
  while (text.starts_with(' ')) text.remove_prefix(1);
  if (text == "[DONE]") {
    done_ = true;
  } else if (!text.empty()) {
    event(text, now_us);
  }
}

void LoadStream::event(std::string_view json, uint32_t now_us) {
  if (json.front() != '{' || json.back() != '}') {
    return fail_with("bad answer", "an event of the stream is no JSON object: " + one_line(json));
  }
  const bool text = chat_ ? any_member(json, "\"content\"", non_empty_string) ||
                                any_member(json, "\"reasoning_content\"", non_empty_string) ||
                                any_member(json, "\"reasoning\"", non_empty_string)
                          : any_member(json, "\"text\"", non_empty_string);
  if (text) result_.events.push_back(now_us);
  if (!text && !any_member(json, "\"choices\"", anything)) return rare_event(json);
  if (any_member(json, "\"finish_reason\"", any_string)) done_ = true;
  if (any_member(json, "\"usage\"", object)) usage_ = json;
}

// Neither text nor choices: an error, or usage alone.
void LoadStream::rare_event(std::string_view json) {
  try {
    const Json parsed = parse_json(json, "event");
    if (parsed.contains("usage")) usage_ = json;
    if (const std::string said = message_of(parsed); !said.empty()) fail_with("error in the stream", said);
  } catch (const Error& error) {
    fail_with("bad answer", error.what());
  }
}

void LoadStream::read_usage(std::string_view json) {
  const Json parsed = parse_json(json, "usage");
  const auto usage = parsed.find("usage");
  if (usage == parsed.end() || !usage->is_object()) return;
  result_.prompt_tokens = count_of(*usage, "prompt_tokens", -1);
  result_.output_tokens = count_of(*usage, "completion_tokens", -1);
  if (const auto details = usage->find("prompt_tokens_details"); details != usage->end()) {
    result_.cached_tokens = count_of(*details, "cached_tokens", 0);
  }
}

void LoadStream::read_whole() {
  const Json parsed = parse_json(partial_, "answer");
  if (!parsed.is_object() || !parsed.contains("choices")) {
    return fail_with("bad answer", "the answer has no choices: " + one_line(partial_));
  }
  read_usage(partial_);
}

void LoadStream::finish() {
  if (result_.state == LoadResult::kFailed) return;
  try {
    if (!streamed_) {
      read_whole();
    } else if (!done_) {
      const bool empty = result_.events.empty();
      fail_with("broken stream",
                empty ? "the answer ended without any event" : "the stream ended without a finish reason or [DONE]");
    } else if (!usage_.empty()) {
      read_usage(usage_);
    }
  } catch (const Error& error) {
    fail_with("bad answer", error.what());
  }
  if (result_.state != LoadResult::kFailed) result_.state = LoadResult::kOk;
}

}  // namespace baize::apps
