// Table: rows of text in aligned columns, for people. Any thread.
#pragma once

#include <string>
#include <vector>

namespace baize::apps {

class Table {
 public:
  /// Columns whose heading begins with '>' are aligned to the right.
  explicit Table(std::vector<std::string> headings);

  /// As many cells as there are headings.
  void add(std::vector<std::string> cells);
  /// Ends every line with a newline; empty without rows.
  std::string text() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;  // the headings first
};

}  // namespace baize::apps
