// A report before it is HTML or Markdown: sections of sentences, tables and pictures.
#pragma once

#include <string>
#include <variant>
#include <vector>

namespace svfleet {

struct ReportTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};
struct ReportPicture {
  std::string svg;  // only in HTML
};
using ReportPart = std::variant<std::string, ReportTable, ReportPicture>;

struct ReportSection {
  std::string title;
  std::vector<ReportPart> parts;
};
using ReportDocument = std::vector<ReportSection>;

// One page that needs nothing else: style and pictures are in it.
std::string as_html(const std::string& title, const ReportDocument& document);
std::string as_markdown(const std::string& title, const ReportDocument& document);

std::string escaped(const std::string& text);  // for HTML and SVG
std::string shown_number(double value);        // four digits; "-" where it is not finite

}  // namespace svfleet
