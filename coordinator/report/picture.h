// Pictures as SVG, the same bytes for the same numbers.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace svfleet {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (step, value), finite, by step
};

// One line for each series that has points, in its place's colour; "" where none has any.
std::string line_chart(const std::string& title, const std::vector<Series>& series);

// rows[y][x], at least 0, the darkest is the largest; row 0 on top. "" where there is nothing.
std::string heat_map(const std::string& title, const std::vector<std::vector<double>>& rows);

}  // namespace svfleet
