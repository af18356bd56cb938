#include "apps/line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "apps/interrupt.h"

namespace baize::apps {

namespace {

constexpr int kHistoryLines = 1000;

std::string to_utf8(const std::wstring& wide) {
  std::string out;
  for (const wchar_t w : wide) {
    const auto c = std::bit_cast<uint32_t>(w);
    if (c < 0x80) {
      out += static_cast<char>(c);
      continue;
    }
    const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out += static_cast<char>((0xf00u >> more & 0xf0u) | c >> (6 * more));
    for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80u | (c >> (6 * i) & 0x3fu));
  }
  return out;
}

std::wstring to_wide(const std::string& text) {
  std::wstring out;
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i++]);
    const int more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    uint32_t c = more == 0 ? first : first & (0x3fu >> more);
    for (int k = 0; k < more && i < text.size(); ++k) c = c << 6 | (static_cast<unsigned char>(text[i++]) & 0x3fu);
    out += static_cast<wchar_t>(c);
  }
  return out;
}

// Reads one byte; 0 at the end of input, -1 when a signal came.
int read_byte(unsigned char& byte) {
  ssize_t count = -1;
  while (count < 0 && interrupt::wait_readable(STDIN_FILENO)) {
    count = ::read(STDIN_FILENO, &byte, 1);
    if (count < 0 && errno != EINTR) break;
  }
  return static_cast<int>(count);
}

// libedit's own reader goes on after a signal and depends on the locale; this one does neither.
int read_character(EditLine*, wchar_t* out) {
  unsigned char byte = 0;
  if (read_byte(byte) <= 0) return 0;
  constexpr unsigned char kEndOfFile = 4;  // Ctrl-D; typed while no line is read, it arrives as a zero (Linux's n_tty)
  if (byte == 0) byte = kEndOfFile;
  const int more = byte < 0xc0 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
  uint32_t c = byte < 0x80 ? byte : byte < 0xc0 ? 0xfffd : byte & (0x3fu >> more);
  for (int i = 0; i < more; ++i) {
    if (read_byte(byte) <= 0) return 0;
    c = c << 6 | (byte & 0x3fu);
  }
  *out = static_cast<wchar_t>(c);
  return 1;
}

// So that wide characters take their columns on the screen.
void use_utf8_locale() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineEditor::Impl {
  EditLine* edit = nullptr;
  HistoryW* history = nullptr;
  std::string history_file;
  std::wstring prompt;

  static wchar_t* show_prompt(EditLine* edit) {
    void* self = nullptr;
    el_wget(edit, EL_CLIENTDATA, &self);
    return static_cast<Impl*>(self)->prompt.data();
  }
};

LineEditor::LineEditor(const std::string& history_file) : impl_(std::make_unique<Impl>()) {
  use_utf8_locale();
  FILE* out = isatty(STDOUT_FILENO) != 0 ? stdout : stderr;
  impl_->edit = el_init("baize", stdin, out, stderr);
  impl_->history = history_winit();
  impl_->history_file = history_file;
  HistEventW event;
  history_w(impl_->history, &event, H_SETSIZE, kHistoryLines);
  history_w(impl_->history, &event, H_SETUNIQUE, 1);
  history_w(impl_->history, &event, H_LOAD, history_file.c_str());
  el_wset(impl_->edit, EL_CLIENTDATA, impl_.get());
  el_wset(impl_->edit, EL_EDITOR, L"emacs");
  el_wset(impl_->edit, EL_PROMPT, &Impl::show_prompt);
  el_wset(impl_->edit, EL_HIST, history_w, impl_->history);
  el_wset(impl_->edit, EL_GETCFN, &read_character);
  el_wset(impl_->edit, EL_BIND, L"^R", L"em-inc-search-prev", nullptr);
  el_source(impl_->edit, nullptr);  // the user's ~/.editrc
}

LineEditor::~LineEditor() {
  history_wend(impl_->history);
  el_end(impl_->edit);
}

LineEditor::Line LineEditor::read(const std::string& prompt) {
  impl_->prompt = to_wide(prompt);
  el_resize(impl_->edit);
  int count = 0;
  const wchar_t* line = el_wgets(impl_->edit, &count);
  if (interrupt::take()) {
    std::fputs("^C\n", isatty(STDOUT_FILENO) != 0 ? stdout : stderr);
    return {Line::kInterrupt, {}};
  }
  if (line == nullptr || count <= 0) return {Line::kEnd, {}};
  std::wstring text(line, static_cast<size_t>(count));
  while (!text.empty() && (text.back() == L'\n' || text.back() == L'\r')) text.pop_back();
  return {Line::kText, to_utf8(text)};
}

void LineEditor::remember(const std::string& text) {
  HistEventW event;
  history_w(impl_->history, &event, H_ENTER, to_wide(text).c_str());
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(impl_->history_file).parent_path(), ignored);
  const mode_t before = umask(077);  // what was asked is nobody else's business
  history_w(impl_->history, &event, H_SAVE, impl_->history_file.c_str());
  umask(before);
}

}  // namespace baize::apps
