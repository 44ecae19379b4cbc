#include "worker/tokenizer/post.h"

namespace svfleet {

PostProcessor PostProcessor::read(const JsonAt& json) {
  PostProcessor result;
  if (!json.value.is_null()) result.add(json, 0);
  return result;
}

void PostProcessor::add(const JsonAt& json, int depth) {
  const std::string type = json.type();
  if (type == "Sequence" && depth < kMaxNesting) {
    json.only({"type", "processors"});
    const auto parts = json.at("processors");
    for (size_t i = 0; i < parts.array_size(); ++i) add(parts.at(i), depth + 1);
  } else if (type == "ByteLevel") {
    json.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});  // moves offsets only
  } else if (type == "TemplateProcessing") {
    add_template(json);
  } else {
    json.refuse("the post-processor '" + type + "' is not supported");
  }
}

void PostProcessor::add_template(const JsonAt& json) {
  json.only({"type", "single", "pair", "special_tokens"});
  const auto single = json.at("single");
  std::vector<int> left, right;
  bool text_seen = false;
  for (size_t i = 0; i < single.array_size(); ++i) {
    const auto part = single.at(i);
    part.only({"SpecialToken", "Sequence"});
    if (part.has("Sequence")) {
      if (text_seen || part.at("Sequence").text("id") != "A")
        part.refuse("only one sequence, 'A', is supported");
      text_seen = true;
      continue;
    }
    const std::string name = part.at("SpecialToken").text("id");
    const auto ids = json.at("special_tokens").at(name.c_str()).at("ids");
    for (size_t k = 0; k < ids.array_size(); ++k)
      (text_seen ? right : left).push_back(ids.at(k).as_id());
  }
  if (!text_seen) single.refuse("the sequence 'A' is missing");
  before.insert(before.begin(), left.begin(), left.end());
  after.insert(after.end(), right.begin(), right.end());
}

}  // namespace svfleet
