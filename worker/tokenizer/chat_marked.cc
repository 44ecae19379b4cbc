// Chat templates with marks of their own: Gemma, Phi, OLMo 2, Zephyr, Granite, DeepSeek's distills.
#include "worker/tokenizer/chat_turns.h"

namespace svfleet {
namespace {

std::string gemma_turn(const Message& m, const std::string& before) {
  const char* role = m.role == "assistant" ? "model" : "user";
  return std::string("<start_of_turn>") + role + "\n" + before + strip(m.content) +
         "<end_of_turn>\n";
}
constexpr const char* kGemmaAnswer = "<start_of_turn>model\n";

std::string gemma2(const Messages& messages, const ChatTokens& tokens) {
  check_turns(messages, false, "gemma2");
  std::string text = tokens.bos;
  for (const auto& m : messages) text += gemma_turn(m, "");
  return text + kGemmaAnswer;
}

// The system message goes into the first turn.
std::string gemma3(const Messages& messages, const ChatTokens& tokens) {
  check_turns(messages, true, "gemma3");
  const size_t first = first_turn(messages);
  std::string text = tokens.bos;
  for (size_t i = first; i < messages.size(); ++i)
    text += gemma_turn(messages[i], i == first && first ? messages[0].content + "\n\n" : "");
  return text + kGemmaAnswer;
}

// <|role|>, `behind_role`, content, `end`.
std::string marked_turns(const Messages& messages, const char* behind_role, const char* end) {
  std::string text;
  for (const auto& m : messages)
    text.append("<|").append(m.role).append("|>").append(behind_role).append(m.content).append(end);
  return text + "<|assistant|>" + behind_role;
}

std::string phi35(const Messages& messages, const ChatTokens&) {
  Messages kept;
  for (const auto& m : messages)
    if (m.role != "system" || !m.content.empty()) kept.push_back(m);
  return marked_turns(kept, "\n", "<|end|>\n");
}

std::string phi4(const Messages& messages, const ChatTokens&) {
  std::string text;
  for (const auto& m : messages)
    text += "<|im_start|>" + m.role + "<|im_sep|>" + m.content + "<|im_end|>";
  return text + "<|im_start|>assistant<|im_sep|>";
}

std::string olmo2(const Messages& messages, const ChatTokens& tokens) {
  std::string text = tokens.bos;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& m = messages[i];
    const bool answer = m.role == "assistant", last = i + 1 == messages.size();
    text += "<|" + m.role + "|>\n" + m.content + (answer ? tokens.eos : "") +
            (answer && last ? "" : "\n");
  }
  return text + "<|assistant|>\n";
}

std::string zephyr(const Messages& messages, const ChatTokens& tokens) {
  return marked_turns(messages, "\n", (tokens.eos + "\n").c_str());
}

constexpr const char* kGraniteAnswer = "<|start_of_role|>assistant<|end_of_role|>";

std::string granite(const Messages& messages, const std::string& default_system) {
  const auto turn = [](const std::string& role, const std::string& content) {
    return "<|start_of_role|>" + role + "<|end_of_role|>" + content + "<|end_of_text|>\n";
  };
  std::string text;
  if (!default_system.empty() && !has_system(messages)) text = turn("system", default_system);
  for (const auto& m : messages) text += turn(m.role, m.content);
  return text + kGraniteAnswer;
}

// Its loop over the turns also writes where the answer starts: without turns there is no start.
std::string granite33(const Messages& messages, const ChatTokens&) {
  std::string text = granite(messages, std::string("Knowledge Cutoff Date: April 2024. ") +
                                           "Today's Date: " + kTodayDateLong +
                                           ". You are Granite, developed by IBM. You are a "
                                           "helpful AI assistant.");
  const bool turns = messages.size() > 1 || !has_system(messages);
  return turns ? text : text.substr(0, text.size() - std::string_view(kGraniteAnswer).size());
}

constexpr const char* kDeepSeekEnd = "<｜end▁of▁sentence｜>";

// The last system message stands before all turns, wherever it was; answers lose their reasoning.
std::string deepseek_r1(const Messages& messages, const ChatTokens& tokens) {
  std::string system, turns;
  for (const auto& m : messages) {
    if (m.role == "system")
      system = m.content;
    else if (m.role == "user")
      turns += "<｜User｜>" + m.content;
    else
      turns.append("<｜Assistant｜>").append(behind_last(m.content, "</think>")) += kDeepSeekEnd;
  }
  return tokens.bos + system + turns + "<｜Assistant｜><think>\n";
}

constexpr ChatFamily kMarked[] = {
    {"gemma2", true, false, "<end_of_turn>", gemma2},
    {"gemma3", true, false, "<end_of_turn>", gemma3},
    {"phi3", false, false, "<|end|>",
     [](const auto& m, const auto&) { return marked_turns(m, "\n", "<|end|>\n"); }},
    {"phi3.5", false, false, "<|end|>", phi35},
    {"phi4", false, false, "<|im_end|>", phi4},
    {"phi4-mini", false, false, "<|end|>",
     [](const auto& m, const auto&) { return marked_turns(m, "", "<|end|>"); }},
    {"olmo2", true, true, nullptr, olmo2},
    {"zephyr", false, true, nullptr, zephyr},
    {"granite3.0", false, false, "<|end_of_text|>",
     [](const auto& m, const auto&) { return granite(m, ""); }},
    {"granite3.3", false, false, "<|end_of_text|>", granite33},
    {"deepseek-r1", true, false, kDeepSeekEnd, deepseek_r1},
};

}  // namespace

std::span<const ChatFamily> marked_families() {
  return kMarked;
}

}  // namespace svfleet
