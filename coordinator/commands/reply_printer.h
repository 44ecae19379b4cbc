// Replies on standard output: streamed for a person, or kept for one line of JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "worker/model/generate.h"

namespace svfleet {

class ReplyPrinter {
 public:
  ReplyPrinter(bool as_json, const std::string& prefill) : as_json_(as_json), prefill_(prefill) {}

  void prompt(const std::string& text);
  // What gets the reply of `name` to the prompt, piece by piece.
  OnText begin(const std::string& name);
  void end(const std::string& name, const Rollout& reply);
  void finish(double temperature) const;

 private:
  const bool as_json_;
  const std::string prefill_;
  std::string prompt_;
  nlohmann::json results_ = nlohmann::json::array();
};

}  // namespace svfleet
