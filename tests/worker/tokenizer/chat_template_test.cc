// Rendering against transformers' apply_chat_template, and recognition by the template's text.
#include "worker/tokenizer/chat_template.h"

#include <set>

#include "comm/error.h"
#include "tests/worker/tokenizer/fixture.h"
#include "worker/tokenizer/chat_template_canonical.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::vector<Message> messages_of(const json& chat) {
  std::vector<Message> messages;
  for (const auto& turn : chat) messages.push_back({turn["role"], turn["content"]});
  return messages;
}

json config_of(const json& family) {
  json config = {{"chat_template", family["template"]}};
  if (family["bos"] != "") config["bos_token"] = family["bos"];
  // The other way to write a token.
  if (family["eos"] != "") config["eos_token"] = {{"content", family["eos"]}, {"lstrip", false}};
  return config;
}

ChatTemplate load(const json& config, const std::string& name = "", const std::string& jinja = "") {
  const Folder folder;
  folder.write("tokenizer_config.json", config.dump());
  if (!jinja.empty()) folder.write("chat_template.jinja", jinja);
  return ChatTemplate::load(folder.path(), name);
}

std::string refusal(const json& config, const std::string& name = "") {
  try {
    load(config, name);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "accepted";
}

TEST(ChatTemplate, RendersAsTransformers) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  std::set<std::string> seen, texts;
  int refused = 0;
  for (const auto& family : fixtures["families"]) {
    seen.insert(family["name"]);
    const auto chat_template = load(config_of(family), family["name"]);
    for (size_t i = 0; i < fixtures["conversations"].size(); ++i) {
      const auto messages = messages_of(fixtures["conversations"][i]);
      const auto& rendered = family["rendered"][i];
      // Llama 2's template drops a late system message in silence; here that is an error.
      const bool dropped =
          family["name"] == "llama2" && messages.size() > 1 && messages[1].role == "system";
      if (rendered.is_null() || dropped) {
        ++refused;
        EXPECT_THROW(chat_template.render(messages), Error) << family["name"] << i;
      } else {
        EXPECT_EQ(chat_template.render(messages), rendered.get<std::string>())
            << family["name"] << " " << i;
        texts.insert(rendered);
      }
    }
  }
  const auto names = ChatTemplate::names();
  EXPECT_EQ(seen, (std::set<std::string>(names.begin(), names.end())));
  EXPECT_GT(refused, 10);
  EXPECT_GT(texts.size(), 80u);  // the families do differ
}

TEST(ChatTemplate, RecognisesThePublishedTexts) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  int published = 0;
  for (const auto& family : fixtures["families"]) {
    const auto config = config_of(family);
    if (!family["published"]) {
      // Renders the same, but is not the text that was published: not sure, so refused.
      EXPECT_NE(refusal(config).find("model.chat_template"), std::string::npos) << family["name"];
      continue;
    }
    ++published;
    const std::string text = family["template"];
    EXPECT_EQ(load(config).name(), family["name"]) << ChatTemplate::fingerprint(text);
    auto other = config;
    other["chat_template"] = "not this one";
    EXPECT_EQ(load(other, "", text + "\n").name(), family["name"]);
    other["chat_template"] = {{{"name", "tool_use"}, {"template", "not this one"}},
                              {{"name", "default"}, {"template", text}}};
    EXPECT_EQ(load(other).name(), family["name"]);
  }
  EXPECT_GE(published, 8);
}

TEST(ChatTemplate, SpellingDoesNotMatterButMeaningDoes) {
  const auto print = [](const std::string& text) { return canonical_template(text); };
  const std::string base =
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}{% endfor %}";
  for (const char* same :
       {"{%- for message in messages %}\n    {{- \"<|im_start|>\" + message.role + '\\n' }}\n"
        "{%- endfor %}\n",
        "{% for message in messages %}\n  {# why #}\n{{'<|im_start|>'+message[\"role\"]+'\n'}}"
        "{%endfor%}",
        "   {% for message in messages -%}   {{ '<|im_start|>' + message . role + '\\n' -}}\n\n"
        "  {% endfor %}\n"})
    EXPECT_EQ(print(base), print(same)) << same;
  for (const char* other :
       {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n\\n' }}{% endfor "
        "%}",
        "{% for message in messages %} {{ '<|im_start|>' + message['role'] + '\\n' }}{% endfor %}",
        "{% for message in messages %}{{ '<|im_start|> ' + message['role'] + '\\n' }}{% endfor %}",
        "{% for message in messages %}{{ '<|im_start|>' + message['roles'] + '\\n' }}{% endfor %}",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}\n\n{% endfor "
        "%}",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}{% endfor %}x"})
    EXPECT_NE(print(base), print(other)) << other;
}

TEST(ChatTemplate, AnotherDefaultSystemLineIsNotRecognised) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  for (const auto& family : fixtures["families"]) {
    if (family["name"] != "smollm2") continue;
    auto config = config_of(family);
    std::string text = config["chat_template"];
    text.replace(text.find("SmolLM"), 6, "Other");
    config["chat_template"] = text;
    EXPECT_NE(refusal(config).find("smollm2, chatml"), std::string::npos);
  }
}

TEST(ChatTemplate, ErrorsSayWhatToDo) {
  EXPECT_NE(refusal(json::object()).find("model.chat_template"), std::string::npos);
  EXPECT_NE(refusal({{"chat_template", 7}}).find("no chat template"), std::string::npos);
  EXPECT_NE(refusal(json::object(), "gemma").find("'gemma'"), std::string::npos);
  EXPECT_NE(refusal(json::object(), "llama3").find("bos_token"), std::string::npos);
  EXPECT_NE(refusal({{"bos_token", "<s>"}}, "llama2").find("eos_token"), std::string::npos);
  EXPECT_NE(refusal(json::array()).find("not a JSON object"), std::string::npos);
  const auto chatml = load(json::object(), "chatml");
  EXPECT_THROW(chatml.render({}), Error);
  EXPECT_THROW(chatml.render({{"tool", "x"}}), Error);
  EXPECT_EQ(chatml.render({{"user", "\xff"}}),
            "<|im_start|>user\n\xef\xbf\xbd<|im_end|>\n<|im_start|>assistant\n");
}

// Whatever the text, no crash and no hang.
TEST(ChatTemplate, AnyTextHasAFingerprint) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  for (const auto& family : fixtures["families"]) {
    const std::string text = family["template"];
    for (size_t n = 0; n <= text.size(); ++n) {
      canonical_template(text.substr(0, n));
      canonical_template(text.substr(n));
    }
  }
  for (const char* odd : {"{", "{{", "{%-%}", "{%+%}", "{{-}}", "{#", "{# ' #}", "{{ '", "{{ '\\",
                          "\n", "{{ [\"a\"] }}", "{{ ]['a'] }}", "{%---%}"})
    canonical_template(odd);
}

}  // namespace
}  // namespace svfleet
