// LineEditor: reads lines from the terminal with editing and a history that survives the program (libedit). Main
// thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace baize::apps {

class LineEditor {
 public:
  /// The history lives in `history_file`; where that cannot be written there is none.
  explicit LineEditor(const std::string& history_file);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  struct Line {
    enum Kind { kText, kInterrupt, kEnd } kind = kEnd;  // a line, Ctrl-C, Ctrl-D
    std::string text;                                   // UTF-8, without its end
  };
  Line read(const std::string& prompt);

  /// Adds a text, which may have several lines, to the history.
  void remember(const std::string& text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baize::apps
