#include "coordinator/report/document.h"

#include <cmath>
#include <cstdio>

namespace svfleet {
namespace {

constexpr char kStyle[] =
    "body{font:15px/1.4 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 "
    "1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0;font-variant-numeric:tabular-nums;"
    "display:block;overflow-x:auto}"
    "td,th{border:1px solid #ddd;padding:.2em .6em;text-align:left;vertical-align:top}"
    "td{max-width:22em;overflow-wrap:anywhere}"
    "td:first-child{max-width:none;overflow-wrap:normal}"
    "th{background:#f4f4f4}svg{margin:.4em .8em .4em 0}";

std::string html(const ReportTable& table) {
  const auto row = [](const std::vector<std::string>& cells, const char* kind) {
    std::string out = "<tr>";
    for (const std::string& cell : cells)
      out += std::string("<") + kind + ">" + escaped(cell) + "</" + kind + ">";
    return out + "</tr>\n";
  };
  std::string out = "<table>\n" + row(table.header, "th");
  for (const auto& cells : table.rows) out += row(cells, "td");
  return out + "</table>\n";
}

// A cell is one line, and a bar in it is no border.
std::string cell_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|')
      out += "\\|";
    else if (c == '<')
      out += "&lt;";
    else
      out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out;
}

std::string markdown(const ReportTable& table) {
  const auto row = [](const std::vector<std::string>& cells) {
    std::string out = "|";
    for (const std::string& cell : cells) out += " " + cell_text(cell) + " |";
    return out + "\n";
  };
  std::string out = row(table.header) + "|";
  for (size_t i = 0; i < table.header.size(); ++i) out += "---|";
  out += "\n";
  for (const auto& cells : table.rows) out += row(cells);
  return out + "\n";
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out;
}

std::string shown_number(double value) {
  if (!std::isfinite(value)) return "-";
  char text[40];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string as_html(const std::string& title, const ReportDocument& document) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                    escaped(title) + "</title><style>" + kStyle + "</style></head><body>\n<h1>" +
                    escaped(title) + "</h1>\n";
  for (const ReportSection& section : document) {
    out += "<h2>" + escaped(section.title) + "</h2>\n";
    for (const ReportPart& part : section.parts) {
      if (const auto* text = std::get_if<std::string>(&part))
        out += "<p>" + escaped(*text) + "</p>\n";
      if (const auto* table = std::get_if<ReportTable>(&part)) out += html(*table);
      if (const auto* picture = std::get_if<ReportPicture>(&part)) out += picture->svg;
    }
  }
  return out + "</body></html>\n";
}

std::string as_markdown(const std::string& title, const ReportDocument& document) {
  std::string out = "# " + cell_text(title) + "\n\n";
  for (const ReportSection& section : document) {
    std::string body;
    for (const ReportPart& part : section.parts) {
      if (const auto* text = std::get_if<std::string>(&part)) body += cell_text(*text) + "\n\n";
      if (const auto* table = std::get_if<ReportTable>(&part)) body += markdown(*table);
    }
    if (!body.empty()) out += "## " + cell_text(section.title) + "\n\n" + body;
  }
  return out;
}

}  // namespace svfleet
