#include "coordinator/commands/adaptation_report.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "coordinator/adaptation/bag_of_words.h"
#include "coordinator/adaptation/confusion.h"
#include "coordinator/run/columns.h"

namespace svfleet {
namespace {

using nlohmann::json;

json fitness_json(const Fitness& fitness) {
  return {{"score", fitness.score}, {"log_likelihood", fitness.tie}};
}

json search_json(const OpenedSet& opened, const MixtureSearch& search, const std::string& z_hash) {
  json experts = json::array();
  for (size_t k = 0; k < search.shares.size(); ++k)
    experts.push_back({{"label", opened.set.members[k].label},
                       {"share", search.shares[k]},
                       {"alone", fitness_json(search.each[k])}});
  return {{"experts", experts},
          {"base_share", 1 - std::accumulate(search.shares.begin(), search.shares.end(), 0.0)},
          {"base", fitness_json(search.base)},
          {"mixture", fitness_json(search.mixture)},
          {"z_hash", z_hash},
          {"generations", search.generations},
          {"candidates", search.candidates},
          {"measured", search.measured},
          {"ended", search.ended}};
}

json routing_json(const Config& config, const OpenedSet& opened, const FirstPass& pass,
                  const std::vector<Task>& tasks) {
  Confusion of_model(opened.set.labels()), of_words(opened.set.labels());
  const bool seen = config.evaluate.split == "train";
  const BagOfWords words =
      seen ? BagOfWords(opened.set.members.size() + 1) : learned_words(config, opened.set);
  size_t place = 0;
  for (const Task& task : tasks)
    for (const Item& item : task.items) {
      const size_t gold = opened.set.owner_of(task.spec.name);
      of_model.add(gold, pass.to[place++]);
      if (words.knows_any()) of_words.add(gold, words.label(item.question));
    }
  json out = {{"labels", of_model.labels},
              {"confusion", of_model.counts},
              {"n", of_model.n()},
              {"accuracy", of_model.accuracy()},
              {"majority", of_model.majority()},
              {"bag_of_words", nullptr}};
  if (words.knows_any()) out["bag_of_words"] = of_words.accuracy();
  return out;
}

template <class... Values>
std::string text(const char* format, Values... values) {
  char line[256];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

std::string routing_text(const json& routing) {
  const std::vector<std::string> labels = routing["labels"];
  size_t columns = 8;
  for (const std::string& label : labels) columns = std::max(columns, width(label) + 2);
  std::string out = "\n" + left("whose", columns) + "answered by\n" + left("", columns);
  for (const std::string& label : labels) out += right(label, columns);
  out += "\n";
  for (size_t gold = 0; gold < labels.size(); ++gold) {
    out += left(labels[gold], columns);
    for (const json& count : routing["confusion"][gold])
      out += right(std::to_string(count.get<int64_t>()), columns);
    out += "\n";
  }
  out += text("%.3f of the prompts came to the right one; the majority class would have %.3f",
              routing["accuracy"].get<double>(), routing["majority"].get<double>());
  if (!routing["bag_of_words"].is_null())
    out += text(", a bag of words %.3f", routing["bag_of_words"].get<double>());
  return out + "\n";
}

std::string search_row(const std::string& name, size_t columns, const std::string& share,
                       const json& fitness) {
  return left(name, columns) + right(share, 8) +
         right(text("%.3f", fitness["score"].get<double>()), 16) +
         right(text("%.3f", fitness["log_likelihood"].get<double>()), 18) + "\n";
}

std::string search_text(const json& search) {
  size_t columns = 10;
  for (const json& expert : search["experts"])
    columns = std::max(columns, width(expert["label"].get<std::string>()) + 2);
  std::string out = "\n" + left("", columns) + right("share", 8) + right("score on shots", 16) +
                    right("log-likelihood", 18) + "\n";
  out +=
      search_row("base", columns, text("%.3f", search["base_share"].get<double>()), search["base"]);
  for (const json& expert : search["experts"])
    out += search_row(expert["label"], columns, text("%.3f", expert["share"].get<double>()),
                      expert["alone"]);
  out += search_row("mixture", columns, "", search["mixture"]);
  const std::string ended =
      search["ended"] == "evaluations" ? "the budget was spent" : "nothing improved any more";
  return out + text(
                   "%lld mixtures in %d generations, until %s; the score on the shots that chose "
                   "it says too much\n",
                   search["candidates"].get<long long>(), search["generations"].get<int>(),
                   ended.c_str());
}

}  // namespace

json adaptation_json(const Config& config, const AdaptRequest& request, const OpenedSet& opened,
                     const FirstPass& pass, const std::vector<Task>& tasks,
                     const Measuring& second) {
  json experts = json::array();
  for (size_t k = 0; k < opened.z.size(); ++k)
    experts.push_back({{"label", opened.set.members[k].label},
                       {"file", opened.set.members[k].file},
                       {"z_hash", opened.hashes[k]}});
  json out = {{"strategy", request.strategy},
              {"experts", experts},
              {"first_pass",
               {{"seconds", pass.cost.seconds},
                {"tokens_read", pass.cost.read},
                {"tokens_written", pass.cost.written}}},
              {"second_pass",
               {{"seconds", second.seconds.back()}, {"base_seconds", second.seconds.front()}}}};
  if (pass.search) {
    out["search"] = search_json(opened, *pass.search, pass.policy.hash);
    out["search"]["budget"] = request.budget;
  } else {
    out["routing"] = routing_json(config, opened, pass, tasks);
  }
  return out;
}

std::string adaptation_text(const json& adaptation) {
  std::string out = adaptation.contains("search") ? search_text(adaptation["search"])
                                                  : routing_text(adaptation["routing"]);
  const json& first = adaptation["first_pass"];
  out +=
      text("first pass %.1f s, %lld tokens read and %lld written", first["seconds"].get<double>(),
           first["tokens_read"].get<long long>(), first["tokens_written"].get<long long>());
  out += text("; second pass %.1f s (the base's %.1f s)\n",
              adaptation["second_pass"]["seconds"].get<double>(),
              adaptation["second_pass"]["base_seconds"].get<double>());
  return out;
}

}  // namespace svfleet
