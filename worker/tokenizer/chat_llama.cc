// Chat templates of Llama 2 and 3 and of Mistral.
#include "worker/tokenizer/chat_turns.h"

namespace svfleet {
namespace {

std::string llama3_turn(const std::string& role, const std::string& content) {
  return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + strip(content) + "<|eot_id|>";
}
constexpr const char* kLlama3Answer = "<|start_header_id|>assistant<|end_header_id|>\n\n";

std::string llama3(const Messages& messages, const ChatTokens& tokens) {
  std::string text = tokens.bos;
  for (const auto& m : messages) text += llama3_turn(m.role, m.content);
  return text + kLlama3Answer;
}

std::string llama31(const Messages& messages, const ChatTokens& tokens) {
  const size_t first = first_turn(messages);
  std::string text = tokens.bos;
  text += "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n";
  text.append("Today Date: ").append(kTodayDate).append("\n\n");
  text.append(first ? strip(messages[0].content) : "").append("<|eot_id|>");
  for (size_t i = first; i < messages.size(); ++i)
    text += llama3_turn(messages[i].role, messages[i].content);
  return text + kLlama3Answer;
}

std::string llama2(const Messages& messages, const ChatTokens& tokens) {
  check_turns(messages, true, "llama2");
  const size_t first = first_turn(messages);
  std::string text;
  for (size_t i = first; i < messages.size(); ++i) {
    std::string content = messages[i].content;
    if (i == 1 && first) content = "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n" + content;
    text += messages[i].role == "user" ? tokens.bos + "[INST] " + strip(content) + " [/INST]"
                                       : " " + strip(content) + " " + tokens.eos;
  }
  return text;
}

// The first Mistral templates: no system message; v0.1 has a space behind </s>.
std::string mistral_plain(const Messages& messages, const ChatTokens& tokens, const char* name,
                          const char* behind_eos) {
  check_turns(messages, false, name);
  std::string text = tokens.bos;
  for (const auto& m : messages)
    text +=
        m.role == "user" ? "[INST] " + m.content + " [/INST]" : m.content + tokens.eos + behind_eos;
  return text;
}

// With a system message, which goes into the first user turn.
std::string mistral_system(const Messages& messages, const ChatTokens& tokens) {
  check_turns(messages, true, "mistral-v0.2-system");
  const size_t first = first_turn(messages);
  std::string text = tokens.bos;
  for (size_t i = first; i < messages.size(); ++i) {
    const auto& m = messages[i];
    if (m.role == "assistant")
      text += " " + m.content + tokens.eos;
    else
      text += " [INST] " + (first && i == first ? messages[0].content + "\n\n" : "") + m.content +
              " [/INST]";
  }
  return text;
}

// From v0.3 on it goes into the last message, if that is the user's.
std::string mistral_v3(const Messages& messages, const ChatTokens& tokens, const char* name,
                       bool nemo) {
  check_turns(messages, true, name);
  const size_t first = first_turn(messages);
  std::string text = tokens.bos;
  for (size_t i = first; i < messages.size(); ++i) {
    const auto& m = messages[i];
    if (m.role == "assistant") {
      text += (nemo ? m.content : " " + strip(m.content)) + tokens.eos;
      continue;
    }
    const bool last = i + 1 == messages.size();
    text += (nemo ? "[INST]" : "[INST] ") + (first && last ? messages[0].content + "\n\n" : "") +
            m.content + "[/INST]";
  }
  return text;
}

constexpr const char* kEot = "<|eot_id|>";

constexpr ChatFamily kLlama[] = {
    {"llama3", true, false, kEot, llama3},
    {"llama3.1", true, false, kEot, llama31},
    {"llama3.2", true, false, kEot, llama31},
    {"llama2", true, true, nullptr, llama2},
    {"mistral-v0.1", true, true, nullptr,
     [](const auto& m, const auto& t) { return mistral_plain(m, t, "mistral-v0.1", " "); }},
    {"mistral-v0.2", true, true, nullptr,
     [](const auto& m, const auto& t) { return mistral_plain(m, t, "mistral-v0.2", ""); }},
    {"mistral-v0.2-system", true, true, nullptr, mistral_system},
    {"mistral-v0.3", true, true, nullptr,
     [](const auto& m, const auto& t) { return mistral_v3(m, t, "mistral-v0.3", false); }},
    {"mistral-nemo", true, true, nullptr,
     [](const auto& m, const auto& t) { return mistral_v3(m, t, "mistral-nemo", true); }},
};

}  // namespace

std::span<const ChatFamily> llama_families() {
  return kLlama;
}

}  // namespace svfleet
