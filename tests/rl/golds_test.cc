// Real answer keys, where the data folder stands beside the tree: each is read right (against a
// derivation of this file's own), scores as its own reply, and does not score for another item.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "rl/choice_parse.h"
#include "rl/number_parse.h"
#include "rl/reward.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::vector<json> items(const std::string& name) {
  std::ifstream file(std::string(SVFLEET_SOURCE_DIR) + "/../shared/data/" + name);
  std::vector<json> result;
  for (std::string line; std::getline(file, line);) result.push_back(json::parse(line));
  return result;
}

std::string without(std::string text, const std::string& part) {
  for (size_t i; (i = text.find(part)) != std::string::npos;) text.erase(i, part.size());
  return text;
}

// Own reply scores; the gold of the next item with another answer does not.
template <class Same>
void check_controls(const RewardSpec& reward, const std::vector<Gold>& golds, Same same) {
  int others = 0;
  for (size_t i = 0; i < golds.size(); ++i) {
    ASSERT_EQ(gold_problem(reward, golds[i]), "");
    ASSERT_EQ(score_reply(reward, golds[i].answer, golds[i]), 1) << golds[i].answer;
    const Gold& other = golds[(i + 1) % golds.size()];
    if (same(golds[i], other)) continue;
    ASSERT_EQ(score_reply(reward, other.answer, golds[i]), 0)
        << other.answer << " for " << golds[i].answer;
    ++others;
  }
  EXPECT_GT(others, static_cast<int>(golds.size()) / 2);
}

TEST(Golds, EveryGsm8kAnswer) {
  for (const auto& [name, count] : {std::pair("train", 7473u), std::pair("test", 1319u)}) {
    const auto all = items("gsm8k/" + std::string(name) + ".jsonl");
    if (all.empty()) GTEST_SKIP() << "no ../shared/data/gsm8k beside the tree";
    ASSERT_EQ(all.size(), count);
    std::vector<Gold> golds;
    std::vector<double> truth;
    for (const json& item : all) {
      const std::string answer = item["answer"];
      const std::string tail = without(answer.substr(answer.rfind("####") + 4), ",");
      char* end = nullptr;
      const double expected = std::strtod(tail.c_str(), &end);
      ASSERT_EQ(std::string(end), "") << tail;
      ASSERT_EQ(final_number(answer), expected) << answer;
      ASSERT_EQ(gold_number(answer), expected) << answer;
      // As a sentence, with the thousands commas of the key.
      ASSERT_EQ(final_number("So it makes" + answer.substr(answer.rfind("####") + 4) + "."),
                expected);
      golds.push_back({answer, {}, {}});
      truth.push_back(expected);
    }
    check_controls({}, golds, [&](const Gold& a, const Gold& b) {
      return truth[&a - golds.data()] == truth[&b - golds.data()];
    });
  }
}

TEST(Golds, Math500WholeNumbers) {
  const auto all = items("math500/test.jsonl");
  if (all.empty()) GTEST_SKIP() << "no ../shared/data/math500 beside the tree";
  int whole = 0;
  for (const json& item : all) {
    const std::string answer = item["answer"];
    if (!std::regex_match(answer, std::regex(R"(-?(\d+|\d{1,3}(,(\\!)?\d{3})+))"))) continue;
    const double expected = std::strtod(without(without(answer, "\\!"), ",").c_str(), nullptr);
    ++whole;
    ASSERT_EQ(gold_number(answer), expected) << answer;
    ASSERT_EQ(final_number(item["solution"].get<std::string>()), expected) << answer;
  }
  EXPECT_GE(whole, 311);
}

TEST(Golds, EveryArcAnswer) {
  int digits = 0, fives = 0, total = 0;
  for (const char* name :
       {"Easy-Train", "Easy-Dev", "Easy-Test", "Challenge-Train", "Challenge-Dev"}) {
    const auto all = items("arc/ARC-" + std::string(name) + ".jsonl");
    if (all.empty()) GTEST_SKIP() << "no ../shared/data/arc beside the tree";
    RewardSpec reward;
    reward.kind = RewardKind::kMultipleChoice;
    std::vector<Gold> golds;
    for (const json& item : all) {
      Gold gold;
      gold.answer = item["answerKey"];
      int key = -1;
      bool repeated = false;
      for (const json& choice : item["question"]["choices"]) {
        const std::string text = choice["text"];
        repeated = repeated ||
                   std::find(gold.choices.begin(), gold.choices.end(), text) != gold.choices.end();
        if (choice["label"] == gold.answer) key = static_cast<int>(gold.labels.size());
        gold.labels.push_back(choice["label"]);
        gold.choices.push_back(text);
      }
      ASSERT_GE(key, 0);
      digits += gold.answer[0] < 'A';
      fives += gold.labels.size() == 5;
      ++total;
      const std::string& label = gold.answer;
      const std::string& text = gold.choices[key];
      for (const std::string& reply :
           {label, "(" + label + ")", label + ".", label + ". " + text, "Answer: " + label,
            "The answer is (" + label + ") " + text, "**" + label + "**", "\\boxed{" + label + "}"})
        ASSERT_EQ(chosen(reply, gold.labels, gold.choices), key) << reply;
      // A text that is another choice's label, or stands twice, cannot name its choice.
      if (!repeated && text.size() > 1) {
        ASSERT_EQ(chosen(text, gold.labels, gold.choices), key) << text;
      }
      golds.push_back(gold);
    }
    check_controls(reward, golds,
                   [](const Gold& a, const Gold& b) { return a.answer == b.answer; });
  }
  EXPECT_EQ(total, 2251 + 570 + 2376 + 1119 + 299);
  EXPECT_GT(digits, 200);
  EXPECT_GT(fives, 0);
}

}  // namespace
}  // namespace svfleet
