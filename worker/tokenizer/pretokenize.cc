#include "worker/tokenizer/pretokenize.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "worker/tokenizer/normalize.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

// ByteLevel's own pattern, fixed in the format (GPT-2).
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Printable bytes stand for themselves, the others for 0x100 and up, in order.
char32_t stand_in(int byte) {
  const auto printable = [](int b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  };
  if (printable(byte)) return static_cast<char32_t>(byte);
  char32_t c = 0x100;
  for (int b = 0; b < byte; ++b) c += printable(b) ? 0 : 1;
  return c;
}

Regex digit_pattern(const std::string& where) {
  std::string inside = category_class("N");
  for (const auto& r : newest_digits()) {
    append_char(inside, r.first);
    inside += '-';
    append_char(inside, r.last);
  }
  return Regex::from_pcre2(std::string("[").append(inside).append("]"), where);
}

SplitBehavior read_behavior(const JsonAt& json) {
  static const std::map<std::string, SplitBehavior> kNames = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  const std::string name = json.text("behavior");
  const auto found = kNames.find(name);
  if (found == kNames.end()) json.refuse("the behavior '" + name + "' is not supported");
  return found->second;
}

struct Part {
  Span span;
  bool match;
};

}  // namespace

const std::array<std::string, 256>& byte_stand_ins() {
  static const auto table = [] {
    std::array<std::string, 256> chars;
    for (int b = 0; b < 256; ++b) append_char(chars[b], stand_in(b));
    return chars;
  }();
  return table;
}

int byte_of_stand_in(char32_t c) {
  static const auto table = [] {
    std::unordered_map<char32_t, int> bytes;
    for (int b = 0; b < 256; ++b) bytes[stand_in(b)] = b;
    return bytes;
  }();
  const auto found = table.find(c);
  return found == table.end() ? -1 : found->second;
}

std::vector<Span> split_at(const std::vector<Span>& matches, size_t length, SplitBehavior behavior,
                           bool invert) {
  std::vector<Part> parts;
  size_t done = 0;
  for (const auto& match : matches) {
    if (done != match.begin) parts.push_back({{done, match.begin}, invert});
    parts.push_back({match, !invert});
    done = match.end;
  }
  if (done != length) parts.push_back({{done, length}, invert});

  std::vector<Span> spans;
  if (behavior == SplitBehavior::kMergedWithNext) {
    bool next_matched = false;
    for (size_t i = parts.size(); i-- > 0;) {
      if (parts[i].match && !next_matched && !spans.empty())
        spans.back().begin = parts[i].span.begin;
      else
        spans.push_back(parts[i].span);
      next_matched = parts[i].match;
    }
    std::reverse(spans.begin(), spans.end());
  } else {
    bool matched_before = false;
    for (const auto& part : parts) {
      const bool merge =
          (behavior == SplitBehavior::kMergedWithPrevious && part.match && !matched_before) ||
          (behavior == SplitBehavior::kContiguous && part.match == matched_before);
      if (behavior == SplitBehavior::kRemoved && part.match) continue;
      if (merge && !spans.empty())
        spans.back().end = part.span.end;
      else
        spans.push_back(part.span);
      matched_before = part.match;
    }
  }
  std::erase_if(spans, [](const Span& span) { return span.begin == span.end; });
  return spans;
}

Metaspace Metaspace::read(const JsonAt& json) {
  json.only({"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
  Metaspace result;
  result.replacement = json.text("replacement");
  size_t at = 0;
  if (!result.replacement.empty()) next_char(result.replacement, at);
  if (at == 0 || at != result.replacement.size())
    json.refuse("'replacement' should be one character");
  const std::string scheme = json.has("prepend_scheme") ? json.text("prepend_scheme") : "";
  const bool add = json.flag("add_prefix_space", true);
  if (scheme == "never" || (scheme.empty() && !add))
    result.prepend = PrependScheme::kNever;
  else if (scheme == "first" && add)
    result.prepend = PrependScheme::kFirst;
  else if ((scheme != "always" && !scheme.empty()) || !add)
    json.refuse("prepend_scheme '" + scheme + "' is not supported");
  result.split = json.flag("split", true);
  return result;
}

PreTokenizer PreTokenizer::read(const JsonAt& json) {
  PreTokenizer result;
  if (!json.value.is_null()) result.add(json, 0);
  return result;
}

void PreTokenizer::add(const JsonAt& json, int depth) {
  const std::string type = json.type();
  if (type == "Sequence" && depth < kMaxNesting) {
    json.only({"type", "pretokenizers"});
    const auto parts = json.at("pretokenizers");
    for (size_t i = 0; i < parts.array_size(); ++i) add(parts.at(i), depth + 1);
  } else if (type == "Split") {
    json.only({"type", "pattern", "behavior", "invert"});
    steps_.emplace_back(
        Split{read_pattern(json.at("pattern")), read_behavior(json), json.flag("invert", false)});
  } else if (type == "Digits") {
    json.only({"type", "individual_digits"});
    // Contiguous digits: each match is one digit, so "contiguous" glues what touches.
    steps_.emplace_back(Split{digit_pattern(json.where),
                              json.flag("individual_digits", false) ? SplitBehavior::kIsolated
                                                                    : SplitBehavior::kContiguous,
                              false});
  } else if (type == "ByteLevel") {
    json.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    ByteLevel step{json.flag("add_prefix_space", true), {}};
    if (json.flag("use_regex", true))
      step.regex.push_back(Regex::from_onig(kGpt2Pattern, json.where));
    steps_.emplace_back(std::move(step));
  } else if (type == "Metaspace") {
    steps_.emplace_back(Metaspace::read(json));
  } else {
    json.refuse("the pre-tokenizer '" + type + "' is not supported");
  }
}

void PreTokenizer::cut(const Piece& piece, const std::vector<Span>& spans,
                       std::vector<Piece>& out) {
  for (const auto& span : spans)
    out.push_back(
        {piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0});
}

void PreTokenizer::apply(const Split& step, Piece piece, std::vector<Piece>& out) {
  cut(piece,
      split_at(step.pattern.find_all(piece.text), piece.text.size(), step.behavior, step.invert),
      out);
}

void PreTokenizer::apply(const ByteLevel& step, Piece piece, std::vector<Piece>& out) {
  if (step.add_prefix_space && !piece.text.starts_with(' ')) piece.text = " " + piece.text;
  const size_t first = out.size();
  if (step.regex.empty())
    out.push_back(std::move(piece));
  else
    cut(piece,
        split_at(step.regex[0].find_all(piece.text), piece.text.size(), SplitBehavior::kIsolated,
                 false),
        out);
  for (size_t i = first; i < out.size(); ++i) {
    std::string mapped;
    for (const unsigned char byte : out[i].text) mapped += byte_stand_ins()[byte];
    out[i].text = std::move(mapped);
  }
}

void PreTokenizer::apply(const Metaspace& step, Piece piece, std::vector<Piece>& out) {
  std::string text;
  for (const char c : piece.text) c == ' ' ? text += step.replacement : text += c;
  if (!text.starts_with(step.replacement) &&
      (step.prepend == PrependScheme::kAlways ||
       (step.prepend == PrependScheme::kFirst && piece.at_start)))
    text = step.replacement + text;
  piece.text = std::move(text);
  if (!step.split) {
    out.push_back(std::move(piece));
    return;
  }
  std::vector<Span> matches;
  const size_t width = step.replacement.size();
  for (size_t at = 0; (at = piece.text.find(step.replacement, at)) != std::string::npos;
       at += width)
    matches.push_back({at, at + width});
  cut(piece, split_at(matches, piece.text.size(), SplitBehavior::kMergedWithNext, false), out);
}

std::vector<std::string> PreTokenizer::split(std::string text, bool at_start) const {
  std::vector<Piece> pieces;
  if (!text.empty()) pieces.push_back({std::move(text), at_start});
  for (const auto& step : steps_) {
    std::vector<Piece> cut;
    for (auto& piece : pieces)
      std::visit([&](const auto& kind) { apply(kind, std::move(piece), cut); }, step);
    pieces = std::move(cut);
  }
  std::vector<std::string> words;
  for (auto& piece : pieces)
    if (!piece.text.empty()) words.push_back(std::move(piece.text));
  return words;
}

}  // namespace svfleet
