#include "rl/control_chars.h"

#include <cstdio>
#include <optional>

namespace svfleet {
namespace {

// What is left of a LaTeX command whose backslash and first letter became a tab or a return.
bool is_rest_of_command(char c, std::string_view rest) {
  constexpr std::string_view kTab[] = {"imes",  "ext{",  "extbf{", "extit{", "heta",
                                       "frac{", "frac1", "an(",    "an\\",   "riangle"};
  constexpr std::string_view kReturn[] = {"ight", "ho", "angle", "ceil", "floor"};
  if (c == '\t')
    for (std::string_view command : kTab)
      if (rest.starts_with(command)) return true;
  if (c == '\r')
    for (std::string_view command : kReturn)
      if (rest.starts_with(command)) return true;
  return false;
}

std::optional<unsigned> control_at(std::string_view text, size_t i, WrittenIn written_in) {
  const auto byte = static_cast<unsigned char>(text[i]);
  if (is_rest_of_command(text[i], text.substr(i + 1))) return byte;
  if (byte == '\b' || byte == '\f') return byte;
  if (written_in == WrittenIn::kJson || byte == '\t' || byte == '\n' || byte == '\r')
    return std::nullopt;
  if (byte < 0x20 || byte == 0x7F) return byte;
  // YAML's \L and \P, which occur in texts too.
  if (text.substr(i).starts_with("\u2028ambda")) return 0x2028;
  for (std::string_view greek : {"\u2029i", "\u2029hi", "\u2029si"})
    if (text.substr(i).starts_with(greek)) return 0x2029;
  return std::nullopt;
}

}  // namespace

std::string control_problem(std::string_view text, WrittenIn written_in) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto code = control_at(text, i, written_in);
    if (!code) continue;
    char name[16];
    std::snprintf(name, sizeof name, "U+%04X", *code);
    const size_t begin = i + (*code < 0x80 ? 1 : *code < 0x800 ? 2 : 3);
    std::string rest;
    for (size_t k = begin; k < text.size() && rest.size() < 12; ++k) {
      const auto byte = static_cast<unsigned char>(text[k]);
      if (byte <= ' ' || byte >= 0x7F) break;
      rest += text[k];
    }
    return std::string("holds the control character ") + name +
           (rest.empty() ? "" : " before '" + rest + "'") +
           (written_in == WrittenIn::kYaml
                ? ": between double quotes YAML reads \\b, \\f, \\t and their like as such; write "
                  "it between single quotes"
                : ": JSON reads \\b, \\f, \\t and their like as such; write two backslashes for "
                  "one");
  }
  return "";
}

}  // namespace svfleet
