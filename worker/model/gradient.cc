#include "worker/model/gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <set>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/model/decoder.h"
#include "worker/model/index_tensor.h"
#include "worker/model/roots.h"

namespace svfleet {
namespace {

// All groups of a chunk as one tree of segments: common prefixes, rest of each prompt, replies. A
// reply's last token predicts nothing and is left out; its first is predicted by the prompt's last.
struct Tree {
  Batch batch;
  std::vector<int64_t> rows;  // packed row that predicts each trained token
  TrainedTokens tokens;
};

Tree pack(const std::vector<ReplyGroup>& groups) {
  Tree tree;
  Batch& batch = tree.batch;
  std::vector<Sequence> prompts;
  for (const ReplyGroup& group : groups) prompts.push_back({group.prompt, group.entry});
  const std::vector<int> roots = add_roots(prompts, batch);
  for (size_t g = 0; g < groups.size(); ++g) {
    const int64_t length = int64_t(groups[g].prompt->size());
    const int prompt_segment = add_rest(prompts[g], roots[g], batch);
    const int64_t prompt_last = int64_t(batch.tokens.size()) - 1;
    for (const ReplyGroup::Reply& reply : groups[g].replies) {
      const std::vector<int>& tokens = *reply.tokens;
      const int64_t start = int64_t(batch.tokens.size());
      for (size_t i = 0; i < tokens.size(); ++i) {
        tree.rows.push_back(i == 0 ? prompt_last : start + int64_t(i) - 1);
        tree.tokens.labels.push_back(tokens[i]);
        tree.tokens.weights.push_back(reply.weight);
        tree.tokens.kl_weights.push_back(reply.kl_weight);
      }
      if (tokens.size() < 2) continue;
      batch.segments.push_back(
          {start, int64_t(tokens.size()) - 1, prompt_segment, length, groups[g].entry});
      batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end() - 1);
    }
  }
  return tree;
}

// Flat per-token values back into groups, replies, tokens.
ReplyLogProbs by_reply(const std::vector<ReplyGroup>& groups, const at::Tensor& flat) {
  at::Tensor values = flat.to(at::kFloat).cpu().contiguous();
  const float* next = values.data_ptr<float>();
  ReplyLogProbs out;
  for (const ReplyGroup& group : groups) {
    auto& replies = out.emplace_back();
    for (const ReplyGroup::Reply& reply : group.replies) {
      replies.emplace_back(next, next + reply.tokens->size());
      next += reply.tokens->size();
    }
  }
  return out;
}

at::Tensor hidden_at(const Weights& weights, const Adapter& adapter, const Tree& tree) {
  at::Tensor all = forward(weights, adapter, tree.batch);
  at::Tensor rows = index_tensor(tree.rows, weights.device());
  // A prompt's last row is picked once per reply: on a GPU index_select's backward pass would add
  // their gradients in no fixed order, and index's sorts them first.
  if (all.is_cuda()) return all.index({rows});
  return all.index_select(0, rows);
}

// The same groups, naming the entries of a table of `entries` alone.
std::vector<ReplyGroup> renamed(std::vector<ReplyGroup> groups, const std::vector<int>& entries) {
  for (ReplyGroup& group : groups)
    group.entry =
        1 + int(std::lower_bound(entries.begin(), entries.end(), group.entry) - entries.begin());
  return groups;
}

// Gradients of the leaves of `table`, entries from 1 on, as [entries, all r].
std::vector<float> collect(const ExpertTable& table) {
  const std::vector<Target>& targets = table.basis().targets();
  const size_t all = size_t(total_length(targets));
  std::vector<float> dz(all * size_t(table.size() - 1), 0);
  for (size_t t = 0; t < targets.size(); ++t) {
    at::Tensor grad = table.d(t).grad();
    if (!grad.defined()) continue;  // no trained token reaches it
    grad = grad.to(at::kFloat).cpu().contiguous();
    const int64_t r = targets[t].length();
    for (int e = 1; e < table.size(); ++e)
      std::copy_n(grad.data_ptr<float>() + e * r, r,
                  dz.begin() + int64_t(all) * (e - 1) + targets[t].offset);
  }
  return dz;
}

}  // namespace

GradientResult z_gradient(const Weights& weights, const Adapter& adapter,
                          const std::vector<ReplyGroup>& groups, const GradientOptions& options) {
  SVFLEET_CHECK(adapter.kind() == Apply::kActivation || adapter.kind() == Apply::kClosedForm,
                int(adapter.kind()));
  const InStage inside(Stage::kLayer);
  GradientResult result;
  std::set<int> named;
  for (const ReplyGroup& group : groups) named.insert(group.entry);
  result.entries.assign(named.begin(), named.end());
  const ExpertTable leaves = adapter.table()->leaves(result.entries);
  const Adapter trained(adapter.kind(), &leaves, adapter.merged());
  const Tree tree = pack(renamed(groups, result.entries));
  if (tree.rows.empty()) {
    result.dz = collect(leaves);
    result.log_probs.resize(groups.size());
    return result;
  }
  at::Tensor hidden = hidden_at(weights, trained, tree);  // [trained tokens, hidden]
  at::Tensor base;
  if (options.kl != KlLoss::kNone) {
    c10::NoGradGuard no_grad;
    base = hidden_at(weights, Adapter(), tree);
  }
  const Head::Gradient head =
      weights.head().gradient(hidden, base, tree.tokens, options.kl, options.temperature);
  hidden.backward(head.d_hidden);
  // On a GPU all of the backward pass may wait.
  enter(Stage::kCollect, double(tree.batch.tokens.size()));
  result.log_probs = by_reply(groups, head.log_probs);
  result.dz = collect(leaves);
  return result;
}

ReplyLogProbs reply_log_probs(const Weights& weights, const Adapter& adapter,
                              const std::vector<ReplyGroup>& groups, double temperature) {
  c10::NoGradGuard no_grad;
  const InStage inside(Stage::kLayer);
  const Tree tree = pack(groups);
  if (tree.rows.empty()) return ReplyLogProbs(groups.size());
  const at::Tensor hidden = hidden_at(weights, adapter, tree);
  return by_reply(groups, weights.head().log_probs(hidden, tree.tokens.labels, temperature));
}

}  // namespace svfleet
