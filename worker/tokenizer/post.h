// What the post_processor of a tokenizer.json puts around the ids of a text: bos and eos.
#pragma once

#include <vector>

#include "worker/tokenizer/json.h"

namespace svfleet {

struct PostProcessor {
  std::vector<int> before, after;
  static PostProcessor read(const JsonAt& json);

 private:
  void add(const JsonAt& json, int depth);
  void add_template(const JsonAt& json);
};

}  // namespace svfleet
