// Repl: the interactive chat of `baize run`: reads questions and commands from the terminal, shows answers as they
// come. Main thread.
#pragma once

#include <string>

#include "apps/chat.h"
#include "apps/line_editor.h"

namespace baize::apps {

class Repl {
 public:
  /// `show_speed`: a line on standard error after every answer.
  Repl(Chat& chat, std::string model, bool show_speed);

  /// Until /bye, Ctrl-D, or Ctrl-C twice at the prompt. Returns the program's exit code.
  int run();

 private:
  enum class Next { kGoOn, kEnd };

  /// One question or command, which may span several lines.
  LineEditor::Line read_entry();
  Next obey(const std::string& command);
  void set(const std::string& rest);
  void show() const;
  void answer(const std::string& question);

  Chat& chat_;
  std::string model_;
  bool show_speed_;
  LineEditor editor_;
};

/// Asks and writes the answer to standard output. Returns false when Ctrl-C ended it.
bool ask_and_print(Chat& chat, const std::string& question, bool show_speed);

}  // namespace baize::apps
