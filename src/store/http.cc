#include "store/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <exception>
#include <filesystem>
#include <optional>

#include "base/check.h"
#include "base/json.h"
#include "store/files.h"

namespace baize::store {

namespace {
constexpr int kMaxRedirects = 10;
constexpr size_t kMaxErrorBody = 16 * 1024;

struct UrlFree {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, UrlFree>;

struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, ListFree>;

void append(HeaderList& list, const std::string& header) {
  curl_slist* grown = curl_slist_append(list.get(), header.c_str());
  BAIZE_CHECK(grown != nullptr);
  if (!list) list.reset(grown);  // a list that has an element keeps its head
}

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return "";
  std::string copy(text);
  curl_free(text);
  return copy;
}

Url parse_url(const std::string& text) {
  Url url(curl_url());
  BAIZE_CHECK(url != nullptr);
  if (curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) url.reset();
  return url;
}

std::string host_of(const std::string& text) {
  const Url url = parse_url(text);
  return url ? part_of(url.get(), CURLUPART_HOST) : "";
}

// The address for messages: without a user's password and the query, which may hold a signature.
std::string shown(const std::string& url) {
  std::string text = url.substr(0, url.find_first_of("?#"));
  const size_t host = text.find("://") == std::string::npos ? 0 : text.find("://") + 3;
  const size_t at = text.substr(0, text.find('/', host)).rfind('@');
  if (at != std::string::npos && at >= host) text.erase(host, at + 1 - host);
  return text.substr(0, 300);
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

// The number that the text begins with, or 0.
double leading_number(std::string_view text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  return value;
}

// The server's own words: HF's X-Error-Message header, or a message field of a JSON body.
std::string server_words(const HttpHead& head, const std::string& body) {
  const std::string message = head.header("x-error-message");
  if (!message.empty()) return one_line(message);
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return "";
  for (const char* key : {"error", "Message", "message"}) {
    if (json.contains(key) && json[key].is_string()) return one_line(json[key].get<std::string>());
  }
  return "";
}

[[noreturn]] void fail_on_status(const HttpHead& head, const HttpRequest& request, const std::string& body) {
  const std::string words = server_words(head, body);
  const std::string said = words.empty() ? "" : fmt::format(" (\"{}\")", words);
  const int status = head.status;
  const bool busy = status == 408 || status == 429 || status >= 500;
  std::string message;
  if (status == 401 || status == 403) {
    message = fmt::format("{} refuses access with HTTP {}{}; {}", shown(head.url), status, said,
                          request.token_hint.empty() ? "check the address" : request.token_hint);
  } else if (status == 404 || status == 410) {
    message =
        fmt::format("{} does not exist (HTTP {}){}; check the spelling of the source", shown(head.url), status, said);
  } else {
    message = fmt::format("{} answered HTTP {}{}{}", shown(head.url), status, said, busy ? "; try again later" : "");
  }
  const double retry_after = std::clamp(leading_number(head.header("retry-after")), 0.0, 60.0);
  throw HttpError(message, busy, HttpAnswer{.status = status, .retry_after = retry_after});
}

[[noreturn]] void fail_on_curl(CURLcode code, const std::string& url, const char* detail) {
  const std::string why = *detail != '\0' ? detail : curl_easy_strerror(code);
  const std::string host = host_of(url);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      throw HttpError(fmt::format("cannot find the server {}; check the address and the network", host), true,
                      HttpAnswer{.connected = false});
    case CURLE_COULDNT_CONNECT:
      throw HttpError(fmt::format("cannot connect to {} ({}); check the address and the network", host, why), true,
                      HttpAnswer{.connected = false});
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      throw HttpError(fmt::format("cannot verify the certificate of {} ({}); install ca-certificates or name your "
                                  "certificates with SSL_CERT_FILE",
                                  host, why),
                      false);
    case CURLE_OPERATION_TIMEDOUT:
      throw HttpError(fmt::format("{} stopped answering ({})", host, why), true);
    default:
      throw HttpError(fmt::format("the connection to {} broke off ({})", host, why), true);
  }
}

// Where the system keeps the certificates it trusts: named by the environment, else the build's default when it exists,
// else the usual places of other distributions. Empty leaves libcurl's default.
std::string certificate_file() {
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    const std::string path = env(name);
    if (!path.empty()) return path;
  }
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return path;
  }
  return "";
}

// https; or plain http where that is meant; or from plain http on this machine to plain http on this machine.
bool may_go_to(const HttpRequest& request, const std::string& url) {
  if (request.plain_http_allowed || origin_of(url).starts_with("https://")) return true;
  return origin_of(request.url).starts_with("http://") && is_loopback(request.url) && is_loopback(url);
}

template <typename T>
void set(CURL* curl, CURLoption option, T value) {
  BAIZE_CHECK(curl_easy_setopt(curl, option, value) == CURLE_OK);
}
}  // namespace

std::string HttpHead::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

int64_t HttpHead::content_length() const {
  const std::string text = header("content-length");
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? value : -1;
}

// One request without redirects, and what its callbacks learn.
struct HttpClient::Hop {
  const HttpSink* sink = nullptr;
  HttpHead head;
  std::string error_body;
  bool head_given = false;
  std::exception_ptr thrown;

  bool redirects() const {
    const int s = head.status;
    return (s == 301 || s == 302 || s == 303 || s == 307 || s == 308) && head.headers.contains("location");
  }
  bool succeeds() const { return head.status == 200 || head.status == 206 || head.status == 304; }

  void give_head() {
    if (head_given || !succeeds()) return;
    head_given = true;
    if (sink->head) sink->head(head);
  }

  // Runs `work`, keeping its exception for later: none may pass through libcurl's C frames.
  template <typename Work>
  bool guarded(Work work) {
    try {
      work();
      return true;
    } catch (...) {
      if (!thrown) thrown = std::current_exception();
      return false;
    }
  }

  static size_t on_header(char* data, size_t size, size_t count, void* self) {
    Hop& hop = *static_cast<Hop*>(self);
    const std::string_view line(data, size * count);
    if (line.starts_with("HTTP/")) {  // also begins the final answer after "100 Continue"
      hop.head.headers.clear();
      const size_t space = line.find(' ');
      hop.head.status =
          space == std::string_view::npos ? 0 : static_cast<int>(leading_number(line.substr(space + 1, 3)));
    } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
      hop.head.headers[lower(trimmed(line.substr(0, colon)))] = trimmed(line.substr(colon + 1));
    }
    return size * count;
  }

  static size_t on_body(char* data, size_t size, size_t count, void* self) {
    Hop& hop = *static_cast<Hop*>(self);
    const std::span<const char> bytes(data, size * count);
    if (!hop.succeeds()) {
      hop.error_body.append(bytes.data(), std::min(bytes.size(), kMaxErrorBody - hop.error_body.size()));
      return hop.error_body.size() < kMaxErrorBody ? bytes.size() : 0;
    }
    const bool fine = hop.guarded([&] {
      hop.give_head();
      if (hop.sink->body) hop.sink->body(bytes);
    });
    return fine ? bytes.size() : 0;
  }

  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    Hop& hop = *static_cast<Hop*>(self);
    return hop.guarded([&] {
      if (hop.sink->tick) hop.sink->tick();
    })
               ? 0
               : 1;
  }
};

void HttpClient::Free::operator()(void* curl) const { curl_easy_cleanup(curl); }

HttpClient::HttpClient(HttpLimits limits) : limits_(limits) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  BAIZE_CHECK(ready);
  curl_.reset(curl_easy_init());
  BAIZE_CHECK(curl_ != nullptr);
}

HttpClient::~HttpClient() = default;

void HttpClient::perform(Hop& hop, const HttpRequest& request, bool with_secrets) {
  CURL* curl = curl_.get();
  curl_easy_reset(curl);  // keeps connections
  HeaderList list;
  for (const std::string& header : request.headers) append(list, header);
  if (with_secrets) {
    for (const std::string& header : request.secret_headers) append(list, header);
  }
  char detail[CURL_ERROR_SIZE] = "";
  set(curl, CURLOPT_URL, hop.head.url.c_str());
  set(curl, CURLOPT_HTTPHEADER, list.get());
  set(curl, CURLOPT_USERAGENT, "baize/0.1");
  set(curl, CURLOPT_ERRORBUFFER, detail);
  set(curl, CURLOPT_NOSIGNAL, 1L);
  set(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  set(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits_.connect_seconds));
  set(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits_.silent_seconds));
  set(curl, CURLOPT_BUFFERSIZE, 256L * 1024);
  set(curl, CURLOPT_HEADERFUNCTION, &Hop::on_header);
  set(curl, CURLOPT_HEADERDATA, &hop);
  set(curl, CURLOPT_WRITEFUNCTION, &Hop::on_body);
  set(curl, CURLOPT_WRITEDATA, &hop);
  set(curl, CURLOPT_NOPROGRESS, 0L);
  set(curl, CURLOPT_XFERINFOFUNCTION, &Hop::on_progress);
  set(curl, CURLOPT_XFERINFODATA, &hop);
  const std::string certificates = certificate_file();
  if (!certificates.empty()) set(curl, CURLOPT_CAINFO, certificates.c_str());

  const CURLcode code = curl_easy_perform(curl);
  if (hop.thrown) std::rethrow_exception(hop.thrown);
  if (hop.redirects()) return;  // its body does not matter, whole or not
  if (hop.head.status != 0 && !hop.succeeds()) fail_on_status(hop.head, request, hop.error_body);
  if (code != CURLE_OK) fail_on_curl(code, hop.head.url, detail);
  hop.give_head();
}

void HttpClient::get(const HttpRequest& request, const HttpSink& sink) {
  const std::string home = origin_of(request.url);
  std::string url = request.url;
  for (int hops = 0; hops <= kMaxRedirects; ++hops) {
    const std::string origin = origin_of(url);
    if (origin.empty()) throw HttpError(fmt::format("\"{}\" is not a valid http address", shown(url)), false);
    if (!may_go_to(request, url)) {
      throw HttpError(fmt::format("{} leads to {}, which is not https; refused", shown(request.url), shown(url)),
                      false);
    }
    Hop hop;
    hop.sink = &sink;
    hop.head.url = url;
    perform(hop, request, origin == home);
    if (!hop.redirects()) return;
    const std::string target = resolve_url(url, hop.head.header("location"));
    if (target.empty()) throw HttpError(fmt::format("{} redirects to an invalid address", shown(url)), false);
    url = target;
  }
  throw HttpError(fmt::format("{} redirects more than {} times; refused", shown(request.url), kMaxRedirects), false);
}

std::string HttpClient::get_text(const HttpRequest& request, const std::function<void()>& tick, size_t limit) {
  std::string text;
  HttpSink sink;
  sink.body = [&](std::span<const char> bytes) {
    if (text.size() + bytes.size() > limit) {
      throw HttpError(fmt::format("{} sends an endless answer; stopped after {} bytes", shown(request.url), limit),
                      false);
    }
    text.append(bytes.data(), bytes.size());
  };
  sink.tick = tick;
  get(request, sink);
  return text;
}

std::string origin_of(const std::string& text) {
  const Url url = parse_url(text);
  if (!url) return "";
  const std::string scheme = part_of(url.get(), CURLUPART_SCHEME);
  const std::string host = part_of(url.get(), CURLUPART_HOST);
  if ((scheme != "http" && scheme != "https") || host.empty()) return "";
  return scheme + "://" + lower(host) + ":" + part_of(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

bool is_loopback(const std::string& text) {
  const std::string host = lower(host_of(text));
  // An address written in digits: a name such as "127.0.0.1.example.org" must not pass.
  const bool digits = host.find_first_not_of("0123456789.") == std::string_view::npos;
  return host == "localhost" || host == "[::1]" || (digits && host.starts_with("127."));
}

std::string percent_encode(std::string_view text, bool keep_slashes) {
  std::string encoded;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_' || c == '~' ||
                       (keep_slashes && c == '/');
    if (plain) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

std::string resolve_url(const std::string& base, const std::string& reference) {
  const Url url = parse_url(base);
  if (!url || curl_url_set(url.get(), CURLUPART_URL, reference.c_str(), CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
    return "";
  return part_of(url.get(), CURLUPART_URL);
}

}  // namespace baize::store
