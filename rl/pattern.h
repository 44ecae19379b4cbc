// Regular expressions (PCRE2, UTF-8) that cannot hang: compiled once, matched within limits.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace svfleet {

// Empty when the pattern compiles and holds no {field}, which would be text; else what is wrong.
std::string pattern_problem(const std::string& pattern);

// What the first match in `text` found: its first group where the pattern has one (empty where the
// group took no part), else the whole match. Nothing without a match. Bytes that are not UTF-8
// match nothing. A match that passes its limits (catastrophic backtracking) is none.
// Thread-safe.
std::optional<std::string> find_pattern(const std::string& pattern, std::string_view text);

}  // namespace svfleet
