// svfleet rebase: an expert on another factor store of the same model, and what that loses.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/commands/commands.h"
#include "coordinator/run/json_line.h"
#include "coordinator/sharing/loss.h"
#include "coordinator/sharing/opened.h"
#include "coordinator/sharing/rebase.h"
#include "svd/store.h"

namespace svfleet {
namespace {

using nlohmann::json;

struct Outcome {
  Expert expert;
  ChangeLoss all;
  std::map<std::string, ChangeLoss> by_kind;
};

Outcome rebase(const OpenedExpert& opened, const FactorStore& other) {
  Outcome outcome;
  std::map<std::string, std::string> hashes;
  for (const Target& target : opened.base.basis->targets()) {
    if (!opened.adapts(target)) continue;
    const Factor to = other.load(target, opened.base.weights->tensor_hashes().at(target.name),
                                 opened.config.svd.tolerance);
    Factor from = stored_factor(opened, target);
    if (from.target.form != to.target.form)
      from = other_side(std::move(from), exact_weight(opened, target));
    Rebased one = rebased(from, to, opened.expert.z.at(target.name));
    for (ChangeLoss* loss : {&outcome.all, &outcome.by_kind[target.kind]})
      loss->add(one.norm2, one.lost2);
    outcome.expert.z[target.name] = std::move(one.z);
    hashes[target.name] = factor_hash(to);
  }
  char error[32];
  std::snprintf(error, sizeof error, "%.3g", outcome.all.share());
  outcome.expert.metadata = opened.expert.metadata;
  outcome.expert.metadata["store_hash"] = factors_hash(hashes);
  outcome.expert.metadata["rebased_from"] = z_hash(opened.expert);
  outcome.expert.metadata["rebased_from_store"] = factors_hash_of(opened);
  outcome.expert.metadata["rebase_error"] = error;
  return outcome;
}

void tell(const CommandLine& line, const Outcome& outcome) {
  if (line.json) {
    json kinds = json::object();
    for (const auto& [kind, loss] : outcome.by_kind) kinds[kind] = loss.share();
    const json report = {{"out", line.out},
                         {"z_hash", z_hash(outcome.expert)},
                         {"matrices", outcome.expert.z.size()},
                         {"store_hash", outcome.expert.metadata.at("store_hash")},
                         {"error", outcome.all.share()},
                         {"by_kind", kinds}};
    std::printf("%s\n", json_line(report).c_str());
    return;
  }
  std::printf("  %-10s %14s\n", "kind", "|dW-dW'|/|dW|");
  for (const auto& [kind, loss] : outcome.by_kind)
    std::printf("  %-10s %14.3g\n", kind.c_str(), loss.share());
  std::printf("  %-10s %14.3g\n%zu matrices on the factors in %s, in %s\n", "all",
              outcome.all.share(), outcome.expert.z.size(), line.share.store.c_str(),
              line.out.c_str());
}

}  // namespace

int rebase_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  crew.on_leader("look at OUT", [&] {
    check_new_file(line.out);
    if (!is_folder(line.share.store))
      throw user_error("there is no factor store at '", line.share.store, "'; make one with ",
                       "svfleet decompose and svd.store set to it");
  });
  const auto opened = open_expert(config, crew, line.experts.front());
  if (!opened) return kExitRequeue;
  if (!opened->expert.core.empty())
    throw user_error("the expert '", opened->path, "' has the core '", opened->expert.core,
                     "', and only experts of core diagonal can be rebased; train it anew on the "
                     "other factors");
  crew.on_leader("rebase", [&] {
    const Outcome outcome = rebase(*opened, FactorStore(line.share.store));
    save_new_expert(line.out, outcome.expert);
    tell(line, outcome);
  });
  return kExitFinished;
}

}  // namespace svfleet
