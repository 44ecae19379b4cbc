#include "worker/tokenizer/chat_template_canonical.h"

#include <algorithm>
#include <vector>

namespace svfleet {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";
constexpr char kEnd = '\x1f';  // behind each token, so that none run together

bool is_name(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// A string literal from its opening quote; `at` moves behind it.
std::string read_string(std::string_view code, size_t& at) {
  const char quote = code[at++];
  std::string value;
  while (at < code.size() && code[at] != quote) {
    char c = code[at++];
    if (c == '\\' && at < code.size()) {
      c = code[at++];
      if (c == 'n')
        c = '\n';
      else if (c == 't')
        c = '\t';
      else if (c != '\\' && c != '\'' && c != '"')
        value += '\\';  // rarer escapes stay as they are written
    }
    value += c;
  }
  if (at < code.size()) ++at;
  return value;
}

std::string tokens_of(std::string_view code) {
  std::vector<std::string> tokens;
  for (size_t at = 0; at < code.size();) {
    const char c = code[at];
    if (kSpace.find(c) != std::string_view::npos) {
      ++at;
    } else if (c == '\'' || c == '"') {
      tokens.push_back("\"" + read_string(code, at));
    } else if (is_name(c)) {
      const size_t begin = at;
      while (at < code.size() && is_name(code[at])) ++at;
      tokens.emplace_back(code.substr(begin, at - begin));
    } else {
      const auto two = code.substr(at, 2);
      const bool pair = two == "==" || two == "!=" || two == "<=" || two == ">=" || two == "//";
      tokens.emplace_back(code.substr(at, pair ? 2 : 1));
      at += tokens.back().size();
    }
    // m['role'] is m.role
    const size_t n = tokens.size();
    if (c == ']' && n >= 4 && tokens[n - 3] == "[" && tokens[n - 2].starts_with('"') &&
        (is_name(tokens[n - 4].back()) || tokens[n - 4] == "]") &&
        !tokens[n - 4].starts_with('"')) {
      const std::string key = tokens[n - 2].substr(1);
      if (!key.empty() && std::all_of(key.begin(), key.end(), is_name)) {
        tokens.resize(n - 3);
        tokens.push_back(".");
        tokens.push_back(key);
      }
    }
  }
  std::string result;
  for (const auto& token : tokens) result.append(token).push_back(kEnd);
  return result;
}

// Where the tag that opens at `at` closes: the position of "%}", "}}" or "#}".
size_t close_of(std::string_view text, size_t at) {
  const char kind = text[at + 1];
  const char end[] = {kind == '{' ? '}' : kind, '}'};
  for (size_t i = at + 2; i + 1 < text.size(); ++i) {
    if (kind != '#' && (text[i] == '\'' || text[i] == '"')) {
      read_string(text, i);
      --i;
      continue;
    }
    if (text[i] == end[0] && text[i + 1] == end[1]) return i;
  }
  return std::string_view::npos;
}

}  // namespace

std::string canonical_template(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  std::string result, pending;
  const auto flush = [&] {
    if (!pending.empty()) result.append("text").append(pending).push_back(kEnd);
    pending.clear();
  };
  bool strip_next = false, line_next = false;
  for (size_t at = 0;;) {
    size_t open = at;
    while ((open = text.find('{', open)) != std::string_view::npos &&
           (open + 1 >= text.size() ||
            std::string_view("{%#").find(text[open + 1]) == std::string_view::npos))
      ++open;
    const size_t close =
        open == std::string_view::npos ? std::string_view::npos : close_of(text, open);
    const bool last = close == std::string_view::npos;
    std::string_view plain = text.substr(at, last ? std::string_view::npos : open - at);
    if (strip_next) plain.remove_prefix(std::min(plain.find_first_not_of(kSpace), plain.size()));
    bool line_start = at == 0;
    if (line_next && plain.starts_with('\n')) {
      plain.remove_prefix(1);
      line_start = true;
    }
    if (last) {
      pending += plain;
      flush();
      return result;
    }
    const char kind = text[open + 1];
    auto code = text.substr(open + 2, close - open - 2);
    const bool strip_before = code.starts_with('-');
    const bool keep_before = code.starts_with('+');
    strip_next = code.ends_with('-');
    line_next = kind != '{' && !strip_next && !code.ends_with('+');
    if (strip_before) {
      plain = plain.substr(0, plain.find_last_not_of(kSpace) + 1);
    } else if (kind != '{' && !keep_before) {
      const size_t content = plain.find_last_not_of(" \t") + 1;
      if (content == 0 ? line_start : plain[content - 1] == '\n') plain = plain.substr(0, content);
    }
    if (strip_before || keep_before) code.remove_prefix(1);
    if (strip_next || code.ends_with('+')) code.remove_suffix(code.empty() ? 0 : 1);
    pending += plain;
    if (kind != '#') {
      flush();
      result.append(1, kind).append(tokens_of(code)).push_back(kEnd);
    }
    at = close + 2;
  }
}

}  // namespace svfleet
