#include "store/fetch.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/text.h"

namespace baize::store {

namespace {
constexpr int64_t kSyncEvery = int64_t{64} << 20;
constexpr int64_t kCountsAsProgress = int64_t{1} << 20;
constexpr size_t kSniffBytes = 16;

// "bytes 100-199/500": first and total (-1 for "*").
struct ContentRange {
  int64_t first = -1, total = -1;
};

std::optional<ContentRange> parse_content_range(std::string_view text) {
  ContentRange range;
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  const size_t dash = text.find('-');
  const size_t slash = text.find('/');
  if (dash == text.npos || slash == text.npos || slash < dash) return std::nullopt;
  const auto number = [](std::string_view digits, int64_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() && value >= 0;
  };
  if (!number(text.substr(0, dash), range.first)) return std::nullopt;
  const std::string_view total = text.substr(slash + 1);
  if (total != "*" && !number(total, range.total)) return std::nullopt;
  return range;
}

// What may stand in If-Range: a strong ETag, else the date of the last change.
std::string validator_of(const HttpHead& head) {
  const std::string etag = head.header("etag");
  if (!etag.empty() && !etag.starts_with("W/")) return etag;
  return head.header("last-modified");
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

void pause(double seconds, Progress& progress) {
  for (const double end = now_seconds() + seconds; now_seconds() < end;) {
    stop_if_cancelled(progress);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

// Counts failures in a row and waits between tries; throws `error` when it is not worth another one.
class Patience {
 public:
  Patience(FetchContext& context, std::string what) : context_(context), what_(std::move(what)) {}

  void wait_after(const HttpError& error, bool progressed) {
    failures_ = progressed ? 1 : failures_ + 1;
    const std::string message = what_.empty() ? error.what() : fmt::format("{}: {}", what_, error.what());
    if (!error.retryable() || (!error.connected() && !context_.reached)) throw HttpError(message, false);
    if (failures_ > context_.retry.retries) {
      throw HttpError(
          fmt::format("{}; gave up after {} tries, run the same command again to go on from here", message, failures_),
          false);
    }
    const RetryPolicy& retry = context_.retry;
    const double doubled = retry.first_delay * std::pow(2.0, failures_ - 1);
    const double delay = std::max(error.retry_after, std::min(retry.longest_delay, doubled));
    context_.progress.note(fmt::format("{}; trying again in {:.1f} s", message, delay));
    pause(delay, context_.progress);
  }

 private:
  FetchContext& context_;
  std::string what_;
  int failures_ = 0;
};

class Download {
 public:
  Download(FetchContext& context, const FetchJob& job, const std::string& key)
      : context_(context), job_(job), key_(key), partial_(context.layout, key, usable_bytes(), context.progress) {
    resumed_ = partial_.size() > 0;
    if (resumed_) {
      context.progress.note(fmt::format("{}: going on after {}", job.file, human_bytes(partial_.size())));
    }
  }

  ModelFile run() {
    try {
      return try_patiently();
    } catch (...) {
      if (partial_.size() == 0) partial_.discard();
      throw;
    }
  }

 private:
  bool digest_known() const { return !job_.sha256.empty(); }

  // How much of an earlier partial can be built upon. With a known digest all of it: the digest decides in the end.
  // Otherwise what the note vouches for, if the server can be asked whether the file is still the same.
  int64_t usable_bytes() {
    const int64_t present = partial_size(context_.layout, key_);
    if (digest_known()) return job_.bytes >= 0 && present > job_.bytes ? 0 : present;
    const auto note = read_note(context_.layout, key_);
    if (!note || note->url != job_.request.url || note->validator.empty()) return 0;
    validator_ = note->validator;
    return std::min(note->synced, present);
  }

  ModelFile try_patiently() {
    Patience patience(context_, job_.file);
    int64_t best = partial_.size();
    for (;;) {
      try {
        if (job_.bytes < 0 || partial_.size() < job_.bytes) transfer();
        return unchanged_ ? unchanged() : finish();
      } catch (const HttpError& error) {
        const bool range_refused = error.status == 416 && partial_.size() > 0;
        if (range_refused) partial_.restart();
        const bool progressed = partial_.size() >= best + kCountsAsProgress;
        best = std::max(best, partial_.size());
        note_progress_quietly();
        patience.wait_after(range_refused ? HttpError(error.what(), true) : error, progressed);
      } catch (...) {
        note_progress_quietly();
        throw;
      }
    }
  }

  void transfer() {
    if (!digest_known() && validator_.empty() && partial_.size() > 0) partial_.restart();
    HttpRequest request = job_.request;
    if (partial_.size() > 0) {
      request.headers.push_back(fmt::format("Range: bytes={}-", partial_.size()));
      if (!digest_known()) request.headers.push_back("If-Range: " + validator_);
    } else if (asks_for_changes()) {
      request.headers.push_back("If-None-Match: " + job_.previous->etag);
    }
    request.headers.push_back("Accept-Encoding: identity");
    total_ = job_.bytes;
    HttpSink sink;
    sink.head = [&](const HttpHead& head) { on_head(head); };
    sink.body = [&](std::span<const char> bytes) { on_body(bytes); };
    sink.tick = [&] { stop_if_cancelled(context_.progress); };
    context_.http.get(request, sink);
    if (!unchanged_ && total_ >= 0 && partial_.size() < total_) {
      throw HttpError(fmt::format("the connection broke off after {} of {} bytes", partial_.size(), total_), true);
    }
  }

  bool asks_for_changes() const { return job_.previous != nullptr && !job_.previous->etag.empty(); }

  void on_head(const HttpHead& head) {
    context_.reached = true;
    if (head.status == 304) {
      if (!asks_for_changes() || partial_.size() > 0) lied("answers \"not modified\" to a question nobody asked");
      unchanged_ = true;
      return;
    }
    const std::string encoding = lower(head.header("content-encoding"));
    if (!encoding.empty() && encoding != "identity") lied(fmt::format("sends the file compressed as \"{}\"", encoding));
    if (lower(head.header("content-type")).starts_with("text/html")) {
      lied("sends a web page instead of the file; it may want a login or a token");
    }
    int64_t announced = -1;
    if (head.status == 206) {
      announced = total_of_range(head);
    } else {
      if (partial_.size() > 0) {
        context_.progress.note(
            fmt::format("{}: the server sends the file from its beginning; starting over", job_.file));
        partial_.restart();
      }
      announced = head.content_length();
    }
    if (job_.bytes >= 0 && announced >= 0 && announced != job_.bytes) {
      lied(fmt::format("announces {} bytes where {} were expected", announced, job_.bytes));
    }
    if (total_ < 0) total_ = announced;
    if (total_ > kMaxFileBytes) lied(fmt::format("announces {} bytes, which cannot be", total_));
    require_free_space(context_.layout.root, total_ - partial_.size(), job_.file);
    if (head.status == 200) {
      etag_ = head.header("etag");
      validator_ = validator_of(head);
    }
    note_progress();
  }

  int64_t total_of_range(const HttpHead& head) const {
    const auto range = parse_content_range(head.header("content-range"));
    if (!range || partial_.size() == 0 || range->first != partial_.size()) {
      lied(fmt::format("sends the range \"{}\" where the bytes from {} on were asked for", head.header("content-range"),
                       partial_.size()));
    }
    return range->total;
  }

  void on_body(std::span<const char> bytes) {
    if (total_ >= 0 && static_cast<int64_t>(bytes.size()) > total_ - partial_.size()) {
      const int64_t total = total_;
      partial_.restart();
      lied(fmt::format("sends more than the {} bytes of the file", total));
    }
    const bool was_checked = partial_.beginning().size() >= kSniffBytes;
    partial_.append(bytes);
    if (!was_checked && partial_.beginning().size() >= kSniffBytes) check_content();
    if (partial_.size() - synced_ >= kSyncEvery) note_progress();
    context_.progress.update(partial_.size(), total_);
  }

  void check_content() {
    try {
      check_beginning(job_.file, partial_.beginning(), "the server");
    } catch (...) {
      partial_.restart();
      throw;
    }
  }

  // Where the digest is unknown, records how much can be trusted after a power cut, and of which version of the file.
  void note_progress() {
    synced_ = partial_.size();
    if (digest_known() || validator_.empty()) return;
    if (synced_ > 0) partial_.sync();
    write_note(context_.layout, key_, {.url = job_.request.url, .validator = validator_, .synced = synced_});
  }

  void note_progress_quietly() {
    try {
      note_progress();
    } catch (const Error&) {  // a full disk, say: the first error is the one to tell
    }
  }

  ModelFile unchanged() {
    partial_.discard();
    return *job_.previous;
  }

  ModelFile finish() {
    if (total_ < 0) total_ = partial_.size();
    check_content();
    const std::string digest = partial_.digest();
    if (digest_known() && digest != job_.sha256) {
      partial_.restart();
      const std::string message =
          fmt::format("the content has the SHA-256 {} where {} was expected", digest, job_.sha256);
      if (!resumed_) throw HttpError(message + "; nothing was kept", false);
      resumed_ = false;  // the old part may be at fault: once more from the beginning
      throw HttpError(message, true);
    }
    const Blob blob = partial_.finish(digest);
    return {.path = job_.file, .sha256 = blob.sha256, .bytes = blob.bytes, .etag = digest_known() ? "" : etag_};
  }

  [[noreturn]] void lied(std::string_view how) const {
    throw HttpError(fmt::format("the server {}", one_line(how)), false);
  }

  FetchContext& context_;
  const FetchJob& job_;
  const std::string& key_;
  std::string validator_;
  Partial partial_;
  std::string etag_;
  int64_t total_ = -1;
  int64_t synced_ = 0;
  bool resumed_ = false;
  bool unchanged_ = false;
};

std::optional<ModelFile> already_there(const FetchContext& context, const FetchJob& job) {
  if (job.sha256.empty()) return std::nullopt;
  const auto bytes = size_of_file(context.layout.blob(job.sha256));
  if (!bytes || (job.bytes >= 0 && *bytes != job.bytes)) return std::nullopt;
  context.progress.note(fmt::format("{}: already here", job.file));
  return ModelFile{.path = job.file, .sha256 = job.sha256, .bytes = *bytes, .etag = ""};
}
}  // namespace

ModelFile fetch_file(FetchContext& context, const FetchJob& job) {
  if (auto file = already_there(context, job)) return *file;
  const std::string key =
      job.sha256.empty() ? "url-" + sha256_of(job.request.url).substr(0, 32) : "sha256-" + job.sha256;
  const FileLock lock = lock_partial(context.layout, key, job.file, context.progress);
  if (auto file = already_there(context, job)) return *file;  // fetched by the process that had the lock
  context.progress.begin(job.file, job.bytes, job.index, job.count);
  const ModelFile file = Download(context, job, key).run();
  context.progress.update(file.bytes, file.bytes);
  context.progress.end();
  return file;
}

std::string fetch_text(FetchContext& context, const HttpRequest& request) {
  Patience patience(context, "");
  for (;;) {
    try {
      std::string text = context.http.get_text(request, [&] { stop_if_cancelled(context.progress); });
      context.reached = true;
      return text;
    } catch (const HttpError& error) {
      patience.wait_after(error, false);
    }
  }
}

void check_beginning(const std::string& file, std::string_view beginning, std::string_view sender) {
  std::string text = lower(beginning);
  text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  if (text.starts_with("<!doctype html") || text.starts_with("<html")) {
    throw HttpError(fmt::format("{} sends a web page instead of {}", sender, file), false);
  }
  if (file.ends_with(".gguf") && !beginning.starts_with("GGUF")) {
    throw HttpError(fmt::format("{} sends something that is not a GGUF file", sender), false);
  }
}

}  // namespace baize::store
