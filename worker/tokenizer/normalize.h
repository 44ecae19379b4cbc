// The normalizer of a tokenizer.json: NFC, Prepend, Replace and sequences of them.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "worker/tokenizer/json.h"

namespace svfleet {

class Normalizer {
 public:
  Normalizer() = default;  // changes nothing
  static Normalizer read(const JsonAt& json);
  std::string apply(std::string text) const;

 private:
  struct Nfc {};
  struct Prepend {
    std::string text;
  };
  struct Replace {
    Regex pattern;
    std::string by;
  };
  void add(const JsonAt& json, int depth);
  std::vector<std::variant<Nfc, Prepend, Replace>> steps_;
};

// `text` with every match of `pattern` replaced.
std::string replace_all(const Regex& pattern, const std::string& text, const std::string& by);

}  // namespace svfleet
