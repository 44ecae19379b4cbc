// Start here: two passes. The first one finds who should answer, by one of three strategies
// (Transformer², arXiv 2501.06252, section 3.2); the second one is an evaluation, or a reply, by
// what it found.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/adaptation/cost.h"
#include "coordinator/adaptation/search.h"
#include "coordinator/base/base.h"
#include "coordinator/config/command_line.h"
#include "coordinator/config/expert_set.h"
#include "coordinator/training/policy.h"

namespace svfleet {

// A set with its experts as they are on this model.
struct OpenedSet {
  ExpertSet set;
  std::vector<std::vector<float>> z;  // of each member [all r]
  std::vector<std::string> hashes;    // z_hash of each member's file
  std::vector<float> classifier;      // z; empty: there is none
};

struct FirstPass {
  Policy policy;  // who answers
  // By prompt: the policy's entry. Empty after few_shot, where one mixture answers all.
  std::vector<int> entries;
  std::vector<size_t> to;  // likewise: the set's member, or members.size(): the base itself
  std::optional<MixtureSearch> search;
  Cost cost;
};

// Error(kExitUser) where the set has not what the strategy needs; before anything is opened.
void check_strategy(const AdaptRequest& request, const ExpertSet& set);

// Collective. `prompts`: what the prompts of the second pass say; `shots`: of few_shot. With
// prompt and classifier, rows of one batch have experts of their own, so that the policy is in
// activation form; what is "other" there is the base to the bit. A mixture is in train.form, as
// `evaluate` has any expert. Nothing when a stop was asked for.
std::optional<FirstPass> first_pass(const Base& base, Crew& crew, const Config& config,
                                    const AdaptRequest& request, const OpenedSet& opened,
                                    const std::vector<std::string>& prompts, const Task& shots);

// Who answers a prompt: "numbers", "other", or of a mixture "0.750 numbers + 0.250 base".
std::string chosen_for(const ExpertSet& set, const FirstPass& pass, size_t prompt);

// The base, then each of `experts`, for rows that name their entries. `base` must stay.
Policy policy_of_all(const Base& base, const std::vector<std::vector<float>>& experts);

}  // namespace svfleet
