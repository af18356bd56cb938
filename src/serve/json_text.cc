#include "serve/json_text.h"

#include <fmt/format.h>

#include <cmath>

#include "text/utf8.h"

namespace baize::serve {

void append_escaped(std::string& out, std::string_view text) {
  size_t plain = 0;  // begin of the run that needs no escape
  const auto escape = [&](size_t at, std::string_view with) {
    out.append(text, plain, at - plain);
    out += with;
    plain = at + 1;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"') {
      escape(i, "\\\"");
    } else if (c == '\\') {
      escape(i, "\\\\");
    } else if (c == '\n') {
      escape(i, "\\n");
    } else if (c < 0x20 || c == 0x7f) {
      escape(i, fmt::format("\\u{:04x}", c));
    }
  }
  out.append(text, plain);
}

void append_json(std::string& out, std::string_view text) {
  out += '"';
  if (find_invalid_utf8(text)) {
    Utf8Stream stream;
    std::string valid;
    stream.push(text, valid);
    stream.flush(valid);
    append_escaped(out, valid);
  } else {
    append_escaped(out, text);
  }
  out += '"';
}

void append_logprob(std::string& out, float value) {
  fmt::format_to(std::back_inserter(out), "{}", std::isfinite(value) ? value : -9999.0f);
}

void append_ids(std::string& out, const Token* ids, size_t count) {
  out += '[';
  for (size_t i = 0; i < count; ++i) {
    if (i > 0) out += ',';
    fmt::format_to(std::back_inserter(out), "{}", ids[i]);
  }
  out += ']';
}

}  // namespace baize::serve
