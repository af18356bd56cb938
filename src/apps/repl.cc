#include "apps/repl.h"

#include <unistd.h>

#include <cstdio>

#include "apps/interrupt.h"
#include "base/error.h"
#include "store/store.h"

namespace baize::apps {

namespace {

constexpr std::string_view kFence = "\"\"\"";

constexpr const char* kHelp =
    "  /set NAME VALUE   change a setting; /set alone lists them\n"
    "  /show             the model, the settings and how much of the context is used\n"
    "  /clear            forget the conversation\n"
    "  /bye              end (also Ctrl-D)\n"
    "  /help             this list\n"
    "Ctrl-C stops an answer. A line that ends with \\ goes on in the next one; a text of many lines stands between\n"
    "\"\"\" and \"\"\". The arrow keys bring back earlier questions, Ctrl-R searches them.\n";

// Whatever a model writes, it must not steer the terminal: control characters other than line breaks and tabs vanish.
std::string without_controls(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool c1 = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (c1) ++i;
    if (!c1 && (c >= 0x20 || c == '\n' || c == '\t') && c != 0x7f) out += text[i];
  }
  return out;
}

void write_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    fail(ErrorKind::kIo, "cannot write to standard output");
  }
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n") + 1 - begin);
}

// "/set" and "top_p 0.9" of "/set top_p 0.9".
std::pair<std::string, std::string> first_word(std::string_view text) {
  const size_t space = text.find_first_of(" \t\n");
  if (space == std::string_view::npos) return {std::string(text), {}};
  return {std::string(text.substr(0, space)), std::string(trimmed(text.substr(space)))};
}

// Paths and the like are questions.
bool is_command(std::string_view text) {
  return text.starts_with('/') && first_word(text).first.find('/', 1) == std::string::npos;
}

}  // namespace

bool ask_and_print(Chat& chat, const std::string& question, bool show_speed) {
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  const Answer answer = chat.ask(question, [&](std::string_view piece) {
    if (terminal) {
      write_out(without_controls(piece));
    } else {
      write_out(piece);
    }
  });
  if (!answer.text.ends_with('\n')) write_out("\n");
  if (answer.reason == FinishReason::kContext) {
    fmt::print(stderr, "(the context is full; --ctx makes it longer)\n");
  }
  if (show_speed) fmt::print(stderr, "[{}]\n", speed_line(answer));
  return answer.reason != FinishReason::kCancelled;
}

Repl::Repl(Chat& chat, std::string model, bool show_speed)
    : chat_(chat),
      model_(std::move(model)),
      show_speed_(show_speed),
      editor_((store::Store::default_root() / "history").string()) {}

LineEditor::Line Repl::read_entry() {
  LineEditor::Line entry = editor_.read(">>> ");
  if (entry.kind != LineEditor::Line::kText) return entry;
  const bool fenced = trimmed(entry.text).starts_with(kFence);
  if (fenced) entry.text = trimmed(entry.text).substr(kFence.size());
  while (true) {
    if (fenced && entry.text.ends_with(kFence)) {
      entry.text.resize(entry.text.size() - kFence.size());
      return entry;
    }
    if (!fenced && !entry.text.ends_with('\\')) return entry;
    if (!fenced) entry.text.pop_back();
    LineEditor::Line more = editor_.read("... ");
    if (more.kind != LineEditor::Line::kText) return more;
    entry.text += "\n" + more.text;
  }
}

int Repl::run() {
  fmt::print(stderr, "{}. /help lists the commands, Ctrl-D ends.\n", model_);
  if (chat_.completes_only()) fmt::print(stderr, "It has no chat template: it continues what you write.\n");
  bool interrupted = false;
  while (true) {
    const LineEditor::Line entry = read_entry();
    if (entry.kind == LineEditor::Line::kEnd) {
      fmt::print(stderr, "\n");
      return 0;
    }
    if (entry.kind == LineEditor::Line::kInterrupt) {
      if (interrupted) return exit_code(ErrorKind::kCancelled);
      fmt::print(stderr, "(Ctrl-C again or /bye ends)\n");
    }
    interrupted = entry.kind == LineEditor::Line::kInterrupt;
    const std::string text(trimmed(entry.text));
    if (text.empty()) continue;
    editor_.remember(text);
    try {
      if (!is_command(text)) {
        answer(text);
      } else if (obey(text) == Next::kEnd) {
        return 0;
      }
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kIo) throw;
      fmt::print(stderr, "{}\n", error.what());
    }
  }
}

void Repl::answer(const std::string& question) {
  if (!ask_and_print(chat_, question, show_speed_)) interrupt::take();  // that Ctrl-C has done its work
}

Repl::Next Repl::obey(const std::string& command) {
  const auto [name, rest] = first_word(command);
  if (name == "/bye" || name == "/exit" || name == "/quit") return Next::kEnd;
  if (name == "/clear") {
    chat_.clear();
  } else if (name == "/set") {
    set(rest);
  } else if (name == "/show") {
    show();
  } else if (name == "/help" || name == "/?") {
    fmt::print(stderr, "{}", kHelp);
  } else {
    fail(ErrorKind::kInvalidArgument, "there is no command {}; /help lists them", name);
  }
  return Next::kGoOn;
}

void Repl::set(const std::string& rest) {
  const auto [name, value] = first_word(rest);
  if (name.empty()) {
    for (const SettingLine& line : list_settings(chat_.settings())) {
      fmt::print(stderr, "  {:<19} {:<10} {}\n", line.name, line.value, line.help);
    }
  } else if (name == "verbose") {
    show_speed_ = value != "off";
  } else {
    change_setting(chat_.settings(), name, value);
  }
}

void Repl::show() const {
  fmt::print(stderr, "  {:<19} {}\n  {:<19} {}\n", "model", model_, "messages", chat_.messages());
  fmt::print(stderr, "  {:<19} {} of {} tokens\n", "context", chat_.context_used(), chat_.context());
  for (const SettingLine& line : list_settings(chat_.settings())) {
    fmt::print(stderr, "  {:<19} {}\n", line.name, line.value);
  }
}

}  // namespace baize::apps
