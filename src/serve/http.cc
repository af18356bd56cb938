#include "serve/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace baize::serve {

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7), made anew once a second.
const std::string& http_date() {
  thread_local std::time_t made_for = 0;
  thread_local std::string date;
  const std::time_t now = std::time(nullptr);
  if (now != made_for) {
    std::tm utc{};
    gmtime_r(&now, &utc);
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    date = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon],
                       1900 + utc.tm_year, utc.tm_hour, utc.tm_min, utc.tm_sec);
    made_for = now;
  }
  return date;
}

}  // namespace

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view Request::header(std::string_view name) const {
  for (const Header& h : headers) {
    if (same_name(h.name, name)) return h.value;
  }
  return {};
}

std::string decode_path(std::string_view path) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
  };
  std::string out;
  for (size_t i = 0; i < path.size(); ++i) {
    const bool escape = path[i] == '%' && i + 2 < path.size() && digit(path[i + 1]) >= 0 && digit(path[i + 2]) >= 0;
    out += escape ? static_cast<char>(digit(path[i + 1]) * 16 + digit(path[i + 2])) : path[i];
    if (escape) i += 2;
  }
  return out;
}

const char* reason_phrase(int status) {
  struct Row {
    int status;
    const char* phrase;
  };
  static constexpr Row kRows[] = {
      {100, "Continue"},
      {200, "OK"},
      {204, "No Content"},
      {400, "Bad Request"},
      {401, "Unauthorized"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {413, "Content Too Large"},
      {417, "Expectation Failed"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {503, "Service Unavailable"},
      {505, "HTTP Version Not Supported"},
  };
  for (const Row& row : kRows) {
    if (row.status == status) return row.phrase;
  }
  return "Unknown";
}

std::string format_head(const Reply& reply, int64_t length, bool keep_alive) {
  std::string out;
  out.reserve(256);
  const auto to = std::back_inserter(out);
  fmt::format_to(to, "HTTP/1.1 {} {}\r\nDate: {}\r\n", reply.status, reason_phrase(reply.status), http_date());
  if (reply.status != 204) fmt::format_to(to, "Content-Type: {}\r\n", reply.content_type);
  if (length < 0) {
    out += "Transfer-Encoding: chunked\r\n";
  } else if (reply.status != 204) {
    fmt::format_to(to, "Content-Length: {}\r\n", length);
  }
  for (const Header& header : reply.headers) fmt::format_to(to, "{}: {}\r\n", header.name, header.value);
  if (!keep_alive) out += "Connection: close\r\n";
  out += "\r\n";
  return out;
}

void append_chunk(std::string& out, std::string_view body) {
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", body.size());
  out += body;
  out += "\r\n";
}

}  // namespace baize::serve
