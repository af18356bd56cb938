#include "apps/table.h"

#include <algorithm>

#include "base/check.h"

namespace baize::apps {

Table::Table(std::vector<std::string> headings) {
  for (std::string& heading : headings) {
    right_.push_back(heading.starts_with('>'));
    if (right_.back()) heading.erase(0, 1);
  }
  rows_.push_back(std::move(headings));
}

void Table::add(std::vector<std::string> cells) {
  BAIZE_CHECK(cells.size() == right_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  if (rows_.size() == 1) return {};
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t column = 0; column < row.size(); ++column) {
      size_t width = 0;
      for (const auto& other : rows_) width = std::max(width, other[column].size());
      const std::string padding(width - row[column].size(), ' ');
      line += (column > 0 ? "  " : "") + (right_[column] ? padding + row[column] : row[column] + padding);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace baize::apps
