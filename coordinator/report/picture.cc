#include "coordinator/report/picture.h"

#include <algorithm>
#include <cstdio>

#include "coordinator/report/document.h"

namespace svfleet {
namespace {

constexpr const char* kColours[] = {"#1f77b4", "#d95f02", "#2a9d3a", "#8e44ad",
                                    "#7f6000", "#c2185b", "#00838f", "#555555"};
constexpr double kWidth = 400, kHeight = 230, kLeft = 52, kRight = 10, kTop = 26, kBottom = 24;

template <class... Values>
std::string text(const char* format, Values... values) {
  char line[512];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

std::string label(double x, double y, const char* anchor, const std::string& words,
                  const char* colour = "#333") {
  return text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"11\" fill=\"%s\">", x, y,
              anchor, colour) +
         escaped(words) + "</text>\n";
}

std::string begin(double width, double height, const std::string& title) {
  return text(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
             "font-family=\"sans-serif\">\n",
             width, height) +
         label(kLeft, 15, "start", title);
}

// About, at this size: pictures that are no wider than they must stand side by side.
double width_of(const std::string& words) {
  return 6.6 * double(words.size());
}

struct Range {
  double low, high;
  double at(double value) const { return high > low ? (value - low) / (high - low) : 0.5; }
};

Range range_of(const std::vector<Series>& series, bool of_steps) {
  Range range{0, 0};
  bool first = true;
  for (const Series& one : series)
    for (const auto& [step, value] : one.points) {
      const double number = of_steps ? step : value;
      range = first ? Range{number, number}
                    : Range{std::min(range.low, number), std::max(range.high, number)};
      first = false;
    }
  return range;
}

}  // namespace

std::string line_chart(const std::string& title, const std::vector<Series>& series) {
  const Range steps = range_of(series, true), values = range_of(series, false);
  std::string lines;
  double names = 0;
  for (size_t k = 0; k < series.size(); ++k) {
    if (series[k].points.empty()) continue;
    names = std::max(names, width_of(series[k].name));
    const char* colour = kColours[k % std::size(kColours)];
    std::string path;
    for (const auto& [step, value] : series[k].points) {
      const double x = kLeft + steps.at(step) * (kWidth - kLeft - kRight);
      const double y = kHeight - kBottom - values.at(value) * (kHeight - kTop - kBottom);
      path += text("%.1f,%.1f ", x, y);
      if (series[k].points.size() <= 24)
        lines += text("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2\" fill=\"%s\"/>\n", x, y, colour);
    }
    lines += text("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.4\" points=\"", colour) +
             path + "\"/>\n";
    lines += label(kWidth + 6, kTop + 12 + 14 * double(k), "start", series[k].name, colour);
  }
  if (lines.empty()) return "";
  const double height = std::max(kHeight, kTop + 14 * double(series.size() + 1));
  return begin(std::max(kWidth + 10 + names, kLeft + width_of(title)), height, title) +
         text("<path d=\"M%.0f %.0fV%.0fH%.0f\" fill=\"none\" stroke=\"#999\"/>\n", kLeft, kTop,
              kHeight - kBottom, kWidth - kRight) +
         label(kLeft - 5, kHeight - kBottom, "end", shown_number(values.low)) +
         label(kLeft - 5, kTop + 8, "end", shown_number(values.high)) +
         label(kLeft, kHeight - 8, "start", "step " + shown_number(steps.low)) +
         label(kWidth - kRight, kHeight - 8, "end", shown_number(steps.high)) + lines + "</svg>\n";
}

std::string heat_map(const std::string& title, const std::vector<std::vector<double>>& rows) {
  constexpr double kCell = 9;
  const double high = rows.size() < 3 ? 13 : kCell;  // of a layer: two have a label each
  double most = 0;
  size_t columns = 0;
  for (const auto& row : rows) {
    columns = std::max(columns, row.size());
    for (const double value : row) most = std::max(most, value);
  }
  if (!columns) return "";
  std::string cells;
  for (size_t y = 0; y < rows.size(); ++y)
    for (size_t x = 0; x < rows[y].size(); ++x)
      cells += text(
          "<rect x=\"%.0f\" y=\"%.0f\" width=\"9\" height=\"%.0f\" fill=\"#1f4e9c\" "
          "fill-opacity=\"%.3f\"/>\n",
          kLeft + kCell * double(x), kTop + high * double(y), high,
          most > 0 ? rows[y][x] / most : 0.0);
  const double bottom = kTop + high * double(rows.size());
  const std::string says = title + ", darkest " + shown_number(most);
  std::string labels = rows.size() > 1 ? label(kLeft - 5, bottom - 2, "end", "last") : "";
  if (rows.size() > 1) labels += label(kLeft - 5, kTop + 9, "end", "first");
  return begin(kLeft + std::max(kCell * double(columns), width_of(says)), bottom + 20, says) +
         labels + cells + "</svg>\n";
}

}  // namespace svfleet
