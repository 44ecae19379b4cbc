#include "worker/tokenizer/chat_template.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoints/hash.h"
#include "checkpoints/lfs_pointer.h"
#include "comm/error.h"
#include "worker/tokenizer/chat_template_canonical.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

using Json = nlohmann::json;
using Messages = std::vector<Message>;

struct Tokens {
  const std::string& bos;
  const std::string& eos;
};

// Python's str.strip(), which Jinja's trim is: white space and the four separators.
std::string strip(const std::string& text) {
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t c = next_char(text, at);
    if (is_white_space(c) || (c >= 0x1c && c <= 0x1f)) continue;
    begin = std::min(begin, start);
    end = at;
  }
  return begin < end ? text.substr(begin, end - begin) : "";
}

bool has_system(const Messages& messages) {
  return messages[0].role == "system";
}

// After an optional system message, where that is allowed: user, assistant, user, ...
void check_turns(const Messages& messages, bool system_allowed, const char* name) {
  const size_t first = system_allowed && has_system(messages) ? 1 : 0;
  for (size_t i = first; i < messages.size(); ++i) {
    const char* wanted = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role != wanted)
      throw user_error("message ", i + 1, " has the role '", messages[i].role,
                       "' where the chat template '", name, "' wants '", wanted,
                       system_allowed ? "'" : "' (it knows no system message)",
                       "; change the task's system prompt or examples");
  }
}

std::string chatml(const Messages& messages, const char* default_system) {
  std::string text;
  if (default_system && !has_system(messages))
    text.append("<|im_start|>system\n").append(default_system).append("<|im_end|>\n");
  for (const auto& m : messages)
    text.append("<|im_start|>")
        .append(m.role)
        .append("\n")
        .append(m.content)
        .append("<|im_end|>\n");
  return text + "<|im_start|>assistant\n";
}

std::string llama3_turn(const std::string& role, const std::string& content) {
  return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + strip(content) + "<|eot_id|>";
}
constexpr const char* kLlama3Answer = "<|start_header_id|>assistant<|end_header_id|>\n\n";

std::string llama3(const Messages& messages, const Tokens& tokens) {
  std::string text = tokens.bos;
  for (const auto& m : messages) text += llama3_turn(m.role, m.content);
  return text + kLlama3Answer;
}

std::string llama31(const Messages& messages, const Tokens& tokens) {
  const size_t first = has_system(messages) ? 1 : 0;
  std::string text = tokens.bos;
  text += "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n";
  text.append("Today Date: ").append(kTodayDate).append("\n\n");
  text.append(first ? strip(messages[0].content) : "").append("<|eot_id|>");
  for (size_t i = first; i < messages.size(); ++i)
    text += llama3_turn(messages[i].role, messages[i].content);
  return text + kLlama3Answer;
}

std::string llama2(const Messages& messages, const Tokens& tokens) {
  check_turns(messages, true, "llama2");
  const size_t first = has_system(messages) ? 1 : 0;
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
std::string mistral_plain(const Messages& messages, const Tokens& tokens, const char* name,
                          const char* behind_eos) {
  check_turns(messages, false, name);
  std::string text = tokens.bos;
  for (const auto& m : messages)
    text +=
        m.role == "user" ? "[INST] " + m.content + " [/INST]" : m.content + tokens.eos + behind_eos;
  return text;
}

// With a system message, which goes into the first user turn.
std::string mistral_system(const Messages& messages, const Tokens& tokens) {
  check_turns(messages, true, "mistral-v0.2-system");
  const size_t first = has_system(messages) ? 1 : 0;
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
std::string mistral_v3(const Messages& messages, const Tokens& tokens, const char* name,
                       bool nemo) {
  check_turns(messages, true, name);
  const size_t first = has_system(messages) ? 1 : 0;
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

struct Family {
  const char* name;
  bool bos, eos;     // the template writes it
  const char* stop;  // ends a turn; null = eos
  std::string (*render)(const Messages&, const Tokens&);
};

constexpr const char* kSmol =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr const char* kQwen2 = "You are a helpful assistant.";
constexpr const char* kQwen25 =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

constexpr const char* kImEnd = "<|im_end|>";
constexpr const char* kEot = "<|eot_id|>";

const Family kFamilies[] = {
    {"smollm2", false, false, kImEnd, [](const auto& m, const auto&) { return chatml(m, kSmol); }},
    {"chatml", false, false, kImEnd, [](const auto& m, const auto&) { return chatml(m, nullptr); }},
    {"llama3", true, false, kEot, llama3},
    {"llama3.1", true, false, kEot, llama31},
    {"llama3.2", true, false, kEot, llama31},
    {"qwen2.5", false, false, kImEnd,
     [](const auto& m, const auto&) { return chatml(m, kQwen25); }},
    {"qwen2", false, false, kImEnd, [](const auto& m, const auto&) { return chatml(m, kQwen2); }},
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

// Fingerprints of the published templates; a family may have several. A test renders each family
// as transformers does; where the published text is short it is among the test's fixtures.
struct Known {
  const char* fingerprint;
  const char* name;
};
constexpr Known kKnown[] = {
    {"72d18974649c478dc6506a07f4aa56c0", "smollm2"},
    {"19a61431199c1fe900e32a598bb047bb", "chatml"},
    {"807aab9a88fdf93f1882519f27ff24bd", "llama3"},
    {"010402556143269164cb907de075aee4", "llama3"},    // heeds add_generation_prompt
    {"bb57a505911536fdf924ab00513c6b3c", "llama3.1"},  // 3.1 and 3.3
    {"47303845a34fd727afce1f45b159625c", "llama3.2"},
    {"a6f236b7d7eb7b3a2519397a356b8052", "qwen2.5"},
    {"216fece2e42f26269bbbab7a7aeef58a", "qwen2"},
    {"62e7fd7b4086b49276c41ddf0f7e3d8d", "llama2"},
    {"551253ff8379de6aa96f1712ea9806c0", "mistral-v0.1"},
    {"40f5735fb22ecbc71f40c3b202a52f31", "mistral-v0.2"},
    {"621010087b73890e70df3932a2edacd9", "mistral-v0.2-system"},
    {"831ddecdfab35eed21a01d797d0e5f2c", "mistral-v0.3"},
    {"6b16064f5431af704ed0135972a3af4d", "mistral-nemo"},
};

const Family* family_of(const std::string& name) {
  const auto* found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [&](const Family& f) { return f.name == name; });
  return found == std::end(kFamilies) ? nullptr : found;
}

std::string all_names() {
  std::string text;
  for (const auto& family : kFamilies) text.append(text.empty() ? "" : ", ").append(family.name);
  return text;
}

std::string read_if_there(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return "";
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file) throw disk_error("cannot read '", path, "'; check its permissions");
  return bytes.str();
}

Json read_config(const std::string& path) {
  const std::string bytes = read_if_there(path);
  if (bytes.empty()) return Json::object();
  refuse_lfs_pointer(path, bytes);
  try {
    auto config = Json::parse(bytes);
    if (config.is_object()) return config;
  } catch (const Json::exception&) {
  }
  throw user_error("'", path, "' is not a JSON object; get the file again");
}

// "bos_token": "<s>" or {"content": "<s>", ...}; "" where there is none.
std::string special_token(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string())
    return (*found)["content"].get<std::string>();
  return "";
}

// chat_template.jinja wins over tokenizer_config.json, as in transformers.
std::string template_text(const std::string& folder, const Json& config, std::string& where) {
  where = folder + "/chat_template.jinja";
  if (auto text = read_if_there(where); !text.empty()) return text;
  where = folder + "/tokenizer_config.json";
  const auto found = config.find("chat_template");
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array())
    for (const auto& named : *found)
      if (named.is_object() && special_token(named, "name") == "default")
        return special_token(named, "template");
  return "";
}

}  // namespace

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> result;
  for (const auto& family : kFamilies) result.push_back(family.name);
  return result;
}

std::string ChatTemplate::fingerprint(const std::string& text) {
  return hash_bytes(canonical_template(text));
}

ChatTemplate ChatTemplate::load(const std::string& folder, const std::string& name) {
  const Json config = read_config(folder + "/tokenizer_config.json");
  ChatTemplate result;
  result.name_ = name;
  if (name.empty()) {
    std::string where;
    const std::string text = template_text(folder, config, where);
    if (text.empty())
      throw user_error("'", folder, "' has no chat template; set model.chat_template to one of ",
                       all_names(), ", or the task's chat to false");
    const std::string print = fingerprint(text);
    for (const auto& known : kKnown)
      if (known.fingerprint == print) result.name_ = known.name;
    if (result.name_.empty())
      throw user_error("the chat template in '", where, "' is not one that svfleet knows; if the ",
                       "model was trained with one of these, set model.chat_template to its name: ",
                       all_names(), "; else set the task's chat to false");
  }
  const Family* family = family_of(result.name_);
  if (!family)
    throw user_error("model.chat_template: there is no chat template '", name, "'; known are ",
                     all_names());
  result.bos_ = special_token(config, "bos_token");
  result.eos_ = special_token(config, "eos_token");
  if ((family->bos && result.bos_.empty()) || (family->eos && result.eos_.empty()))
    throw user_error("'", folder, "/tokenizer_config.json' has no ",
                     family->bos && result.bos_.empty() ? "bos_token" : "eos_token",
                     ", which the chat template '", result.name_,
                     "' writes; add it, or set model.chat_template to another");
  return result;
}

std::string ChatTemplate::turn_end() const {
  const Family* family = family_of(name_);
  return family->stop ? family->stop : eos_;
}

std::string ChatTemplate::bos() const {
  return family_of(name_)->bos ? bos_ : "";
}

std::string ChatTemplate::render(const std::vector<Message>& messages) const {
  if (messages.empty()) throw user_error("a chat without messages; the task's prompt is empty");
  std::vector<Message> valid;
  for (const auto& m : messages) {
    if (m.role != "system" && m.role != "user" && m.role != "assistant")
      throw user_error("a message has the role '", m.role,
                       "'; known are system, user and assistant");
    valid.push_back({m.role, valid_utf8(m.content)});
  }
  const Family* family = family_of(name_);
  SVFLEET_CHECK(family, "no family '", name_, "'");
  return family->render(valid, {bos_, eos_});
}

}  // namespace svfleet
