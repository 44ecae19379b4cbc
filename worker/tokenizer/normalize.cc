#include "worker/tokenizer/normalize.h"

#include "worker/tokenizer/unicode.h"

namespace svfleet {

std::string replace_all(const Regex& pattern, const std::string& text, const std::string& by) {
  std::string result;
  size_t done = 0;
  for (const auto& span : pattern.find_all(text)) {
    result.append(text, done, span.begin - done).append(by);
    done = span.end;
  }
  return result.append(text, done);
}

Normalizer Normalizer::read(const JsonAt& json) {
  Normalizer normalizer;
  if (!json.value.is_null()) normalizer.add(json, 0);
  return normalizer;
}

void Normalizer::add(const JsonAt& json, int depth) {
  const std::string type = json.type();
  if (type == "Sequence" && depth < kMaxNesting) {
    json.only({"type", "normalizers"});
    const auto parts = json.at("normalizers");
    for (size_t i = 0; i < parts.array_size(); ++i) add(parts.at(i), depth + 1);
  } else if (type == "NFC") {
    json.only({"type"});
    steps_.emplace_back(Nfc{});
  } else if (type == "Prepend") {
    json.only({"type", "prepend"});
    steps_.emplace_back(Prepend{json.text("prepend")});
  } else if (type == "Replace") {
    json.only({"type", "pattern", "content"});
    steps_.emplace_back(Replace{read_pattern(json.at("pattern")), json.text("content")});
  } else {
    json.refuse("the normalizer '" + type + "' is not supported");
  }
}

std::string Normalizer::apply(std::string text) const {
  for (const auto& step : steps_) {
    if (std::holds_alternative<Nfc>(step)) {
      text = nfc(text);
    } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!text.empty()) text.insert(0, prepend->text);
    } else if (const auto* replace = std::get_if<Replace>(&step)) {
      text = replace_all(replace->pattern, text, replace->by);
    }
  }
  return text;
}

}  // namespace svfleet
