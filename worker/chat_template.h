// Chat templates of the supported families, recognised by the template text in
// tokenizer_config.json (chat_template, or chat_template.jinja beside it). An unknown one is
// refused with the names of those that are known; the configuration may name one instead.
#pragma once

#include <string>
#include <vector>

#include "rl/task.h"

namespace svfleet {

class ChatTemplate {
 public:
  // `name` empty: recognise; else one of names().
  static ChatTemplate load(const std::string& folder, const std::string& name = "");
  static std::vector<std::string> names();  // smollm2, chatml, llama3, llama3.1, qwen2.5, mistral..
  // The text that is tokenised (with special tokens written out, bos included where the template
  // writes it), ending where the assistant's answer starts.
  std::string render(const std::vector<Message>& messages) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::string bos_;
};

}  // namespace svfleet
