// For scripts/chat_templates alone: what ChatTemplate makes of texts and conversations, as JSON.
//
//   render_chats FOLDER [NAME] < CHATS   {"name": ..., "rendered": [a text, or null where it is
//                                        refused, ...]}; NAME empty: recognise
//   render_chats --format < CHATS        the same, of the pieces that stand beside the chats
//   render_chats --fingerprint < TEMPLATE
//
// CHATS: {"conversations": [[{"role": ..., "content": ...}, ...], ...], "format": {"user": ...}}
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "comm/error.h"
#include "worker/tokenizer/chat_template.h"

namespace svfleet {
namespace {

using nlohmann::json;

json render(const ChatTemplate& chat, const json& conversation) {
  std::vector<Message> messages;
  for (const auto& turn : conversation) messages.push_back({turn["role"], turn["content"]});
  try {
    return chat.render(messages);
  } catch (const Error&) {
    return nullptr;
  }
}

ChatFormat format_of(const json& pieces) {
  const auto piece = [&](const char* name) { return pieces.value(name, ""); };
  return {piece("begin"),     piece("system"), piece("user"),
          piece("assistant"), piece("answer"), piece("default_system")};
}

int run(const std::vector<std::string>& words) {
  const std::string input(std::istreambuf_iterator<char>(std::cin), {});
  if (words.at(0) == "--fingerprint") {
    std::cout << ChatTemplate::fingerprint(input) << "\n";
    return 0;
  }
  const json chats = json::parse(input);
  const auto chat = words[0] == "--format"
                        ? ChatTemplate::of_format(format_of(chats["format"]))
                        : ChatTemplate::load(words[0], words.size() > 1 ? words[1] : "");
  json result = {{"name", chat.name()}, {"rendered", json::array()}};
  for (const auto& conversation : chats["conversations"])
    result["rendered"].push_back(render(chat, conversation));
  std::cout << result << "\n";
  return 0;
}

}  // namespace
}  // namespace svfleet

int main(int count, char** words) {
  try {
    return svfleet::run({words + 1, words + count});
  } catch (const std::exception& error) {
    std::cerr << "render_chats: " << error.what() << "\n";
    return 2;
  }
}
