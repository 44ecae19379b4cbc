// Rendering against Jinja2 on the models' own templates (scripts/chat_templates), recognition by
// the template's text, and formats that are written down.
#include "worker/tokenizer/chat_template.h"

#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "comm/error.h"
#include "tests/sanitized.h"
#include "tests/worker/tokenizer/fixture.h"
#include "worker/tokenizer/chat_template_canonical.h"
#include "worker/tokenizer/chat_template_known.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::vector<Message> messages_of(const json& chat) {
  std::vector<Message> messages;
  for (const auto& turn : chat) messages.push_back({turn["role"], turn["content"]});
  return messages;
}

std::string text_of(const json& family) {
  const std::string path = std::string(SVFLEET_SOURCE_DIR "/tests/data/chat_templates/") +
                           family["file"].get<std::string>();
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

json config_of(const json& family) {
  json config = {{"chat_template", text_of(family)}};
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

// The first conversation that `chat_template` renders otherwise than the fixture says, or -1.
int first_difference(const ChatTemplate& chat_template, const json& conversations,
                     const json& rendered) {
  for (size_t i = 0; i < conversations.size(); ++i) {
    json text;  // null: refused
    try {
      text = chat_template.render(messages_of(conversations[i]));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitUser);
    }
    if (text != rendered[i]) return static_cast<int>(i);
  }
  return -1;
}

TEST(ChatTemplate, RendersAsJinja) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  ASSERT_GE(fixtures["conversations"].size(), 10u);
  std::set<std::string> seen, texts;
  int refused = 0;
  for (const auto& family : fixtures["families"]) {
    seen.insert(family["name"]);
    const auto chat_template = load(config_of(family), family["name"]);
    EXPECT_EQ(first_difference(chat_template, fixtures["conversations"], family["rendered"]), -1)
        << family["name"];
    for (const auto& text : family["rendered"])
      text.is_null() ? void(++refused) : void(texts.insert(text));
  }
  const auto names = ChatTemplate::names();
  EXPECT_EQ(seen, (std::set<std::string>(names.begin(), names.end())));
  EXPECT_GT(refused, 20);
  EXPECT_GT(texts.size(), 250u);  // the families do differ
}

// Control: any other family's renderer shows in the comparison above.
TEST(ChatTemplate, AnotherFamilyIsNoticed) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  // Differ in the fingerprint alone, or on other days only.
  const std::set<std::set<std::string>> alike = {{"llama3.1", "llama3.2"}};
  const json config = {{"bos_token", "<bos>"}, {"eos_token", "<eos>"}};
  for (const auto& family : fixtures["families"])
    for (const auto& name : ChatTemplate::names()) {
      if (name == family["name"] || alike.count({name, family["name"]})) continue;
      auto with_tokens = config_of(family);
      with_tokens.merge_patch(json{{"chat_template", nullptr}});
      for (const auto& [key, token] : config.items())
        if (!with_tokens.contains(key)) with_tokens[key] = token;
      EXPECT_GE(
          first_difference(load(with_tokens, name), fixtures["conversations"], family["rendered"]),
          0)
          << family["name"] << " " << name;
    }
}

TEST(ChatTemplate, RecognisesThePublishedTexts) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  int published = 0;
  for (const auto& family : fixtures["families"]) {
    const auto config = config_of(family);
    const std::string text = text_of(family);
    if (!family["published"]) {
      // Another text that renders alike is not the one that was published: not sure, so refused.
      const bool is_qwen3 = family["name"] == "qwen3-no-thinking";  // the very text of qwen3
      EXPECT_EQ(refusal(config).find("model.chat_template") == std::string::npos, is_qwen3)
          << family["name"];
      continue;
    }
    ++published;
    EXPECT_EQ(load(config).name(), family["name"]) << ChatTemplate::fingerprint(text);
    auto other = config;
    other["chat_template"] = "not this one";
    EXPECT_EQ(load(other, "", text + "\n").name(), family["name"]);
    other["chat_template"] = {{{"name", "tool_use"}, {"template", "not this one"}},
                              {{"name", "default"}, {"template", text}}};
    EXPECT_EQ(load(other).name(), family["name"]);
  }
  EXPECT_GE(published, 25);
}

// The table is what scripts/chat_templates makes of sources.json and the texts beside it.
TEST(ChatTemplate, TheTableOfFingerprintsIsThatOfTheSources) {
  std::map<std::string, std::string> table, sources;
  for (const auto& known : known_templates())
    EXPECT_TRUE(table.emplace(known.fingerprint, known.family).second) << known.fingerprint;
  for (const auto& entry :
       read_json(SVFLEET_SOURCE_DIR "/tests/data/chat_templates/sources.json")) {
    EXPECT_FALSE(entry["source"].get<std::string>().empty());
    EXPECT_FALSE(entry["licence"].get<std::string>().empty());
    if (entry["published"] && entry.value("thinking", true))
      sources[ChatTemplate::fingerprint(text_of(entry))] = entry["family"];
    for (const auto& print : entry.value("fingerprints", json::array()))
      sources[print] = entry["family"];
  }
  EXPECT_EQ(table, sources);
  std::set<std::string> families;
  for (const auto& known : table) families.insert(known.second);
  for (const auto& name : ChatTemplate::names())
    EXPECT_EQ(families.count(name), name == "qwen3-no-thinking" ? 0u : 1u) << name;
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
  EXPECT_NE(refusal(json::object()).find("model.chat_format"), std::string::npos);
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

// Formats that say the same as templates of which Jinja2 gives the truth.
TEST(ChatFormat, RendersAsTheTemplateItSpellsOut) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  // begin, system, user, assistant, answer, default_system
  const std::string im = "<|im_start|>", end = "\n{content}<|im_end|>\n";
  const ChatFormat chatml = {
      "", im + "system" + end, im + "user" + end, im + "assistant" + end, im + "assistant\n", ""};
  ChatFormat qwen2 = chatml;
  qwen2.default_system = "You are a helpful assistant.";
  const std::map<std::string, ChatFormat> formats = {
      {"chatml", chatml},
      {"qwen2", qwen2},
      {"phi4-mini",
       {"", "<|system|>{content}<|end|>", "<|user|>{content}<|end|>",
        "<|assistant|>{content}<|end|>", "<|assistant|>", ""}}};
  int compared = 0;
  for (const auto& family : fixtures["families"]) {
    const auto found = formats.find(family["name"]);
    if (found == formats.end()) continue;
    const auto chat = ChatTemplate::of_format(found->second);
    EXPECT_EQ(first_difference(chat, fixtures["conversations"], family["rendered"]), -1)
        << family["name"];
    auto shorter = found->second;  // control
    shorter.answer.pop_back();
    EXPECT_GE(first_difference(ChatTemplate::of_format(shorter), fixtures["conversations"],
                               family["rendered"]),
              0);
    ++compared;
  }
  EXPECT_GE(compared, 3);
}

TEST(ChatFormat, SaysWhatItLacks) {
  const ChatFormat whole = {"<s>", "", "U{content}", "A{content}</s>\n", "A", ""};
  const auto chat = ChatTemplate::of_format(whole);
  EXPECT_EQ(chat.render({{"user", "{content}"}, {"assistant", "y"}}), "<s>U{content}Ay</s>\nA");
  EXPECT_EQ(chat.turn_end(), "</s>");
  EXPECT_EQ(chat.name(), "chat_format");
  EXPECT_THROW(chat.render({{"system", "s"}, {"user", "x"}}), Error);
  EXPECT_THROW(chat.render({{"tool", "x"}}), Error);
  EXPECT_THROW(chat.render({}), Error);
  EXPECT_FALSE(is_given({}));
  EXPECT_TRUE(is_given({"", "", "", "", "x", ""}));

  const auto problem = [&](const std::function<void(ChatFormat&)>& change) {
    ChatFormat format = whole;
    change(format);
    const std::string said = chat_format_problem(format);
    if (!said.empty()) {
      EXPECT_THROW(ChatTemplate::of_format(format), Error);
    }
    return said;
  };
  EXPECT_EQ(problem([](auto&) {}), "");
  EXPECT_EQ(problem([](auto& f) { f.user = ""; }), "user must hold {content}");
  EXPECT_EQ(problem([](auto& f) { f.assistant = "A"; }), "assistant must hold {content}");
  EXPECT_EQ(problem([](auto& f) { f.system = "S"; }), "system must hold {content}");
  EXPECT_EQ(problem([](auto& f) { f.user += f.user; }), "user must hold {content} once");
  EXPECT_EQ(problem([](auto& f) { f.default_system = "s"; }),
            "default_system needs the piece system");

  // Each piece counts for what a run and an expert remember.
  std::set<std::string> identities = {chat.identity()};
  for (auto piece : {&ChatFormat::begin, &ChatFormat::user, &ChatFormat::assistant,
                     &ChatFormat::answer, &ChatFormat::system, &ChatFormat::default_system}) {
    ChatFormat format = whole;
    format.system = "S{content}";
    format.*piece += "x";
    identities.insert(ChatTemplate::of_format(format).identity());
  }
  EXPECT_EQ(identities.size(), 7u);
}

// Whatever the text, no crash and no hang.
TEST(ChatTemplate, AnyTextHasAFingerprint) {
  const auto fixtures = read_json(kFixtures + "/chat_templates.json");
  for (const auto& family : fixtures["families"]) {
    const std::string text = text_of(family);
    const size_t step = 1 + text.size() / (kSanitized ? 30 : 150);
    for (size_t n = 0; n <= text.size(); n += step) {
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
