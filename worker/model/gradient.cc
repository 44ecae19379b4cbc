#include "worker/model/gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/model/generate.h"

namespace svfleet {
namespace {

// Rows of logits held at a time: [kBlock, vocabulary] in float32.
constexpr int64_t kBlock = 128;

// All groups of a chunk as one tree of segments: common prefix, rest of each prompt, replies. A
// reply's last token predicts nothing and is left out; its first is predicted by the prompt's last.
struct Tree {
  std::vector<int> tokens;
  std::vector<Segment> segments;
  std::vector<int64_t> rows;    // packed row that predicts each trained token
  std::vector<int64_t> labels;  // the trained token
};

Tree pack(const std::vector<ReplyGroup>& groups) {
  Tree tree;
  std::vector<const std::vector<int>*> prompts;
  for (const ReplyGroup& group : groups) prompts.push_back(group.prompt);
  const int64_t shared = common_prefix(prompts);
  if (shared) {
    tree.tokens.assign(prompts[0]->begin(), prompts[0]->begin() + shared);
    tree.segments.push_back({0, shared, -1, 0});
  }
  for (const ReplyGroup& group : groups) {
    const int64_t length = int64_t(group.prompt->size());
    const int prompt_segment = int(tree.segments.size());
    tree.segments.push_back(
        {int64_t(tree.tokens.size()), length - shared, shared ? 0 : -1, shared});
    tree.tokens.insert(tree.tokens.end(), group.prompt->begin() + shared, group.prompt->end());
    const int64_t prompt_last = int64_t(tree.tokens.size()) - 1;
    for (const ReplyGroup::Reply& reply : group.replies) {
      const std::vector<int>& tokens = *reply.tokens;
      const int64_t start = int64_t(tree.tokens.size());
      for (size_t i = 0; i < tokens.size(); ++i) {
        tree.rows.push_back(i == 0 ? prompt_last : start + int64_t(i) - 1);
        tree.labels.push_back(tokens[i]);
      }
      if (tokens.size() < 2) continue;
      tree.segments.push_back({start, int64_t(tokens.size()) - 1, prompt_segment, length});
      tree.tokens.insert(tree.tokens.end(), tokens.begin(), tokens.end() - 1);
    }
  }
  return tree;
}

at::Tensor index_tensor(const std::vector<int64_t>& values, at::Device device) {
  at::Tensor t = at::empty({int64_t(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), t.data_ptr<int64_t>());
  return t.to(device);
}

at::Tensor log_softmax_of(const at::Tensor& hidden, const at::Tensor& head, double temperature) {
  at::Tensor logits = at::linear(hidden, head);
  logits = logits.to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  return at::log_softmax(temperature == 1 ? logits : logits / temperature, -1);
}

// Flat per-token values back into groups, replies, tokens.
std::vector<std::vector<std::vector<float>>> by_reply(const std::vector<ReplyGroup>& groups,
                                                      const at::Tensor& flat) {
  at::Tensor values = flat.to(at::kFloat).cpu().contiguous();
  const float* next = values.data_ptr<float>();
  std::vector<std::vector<std::vector<float>>> out;
  for (const ReplyGroup& group : groups) {
    auto& replies = out.emplace_back();
    for (const ReplyGroup::Reply& reply : group.replies) {
      replies.emplace_back(next, next + reply.tokens->size());
      next += reply.tokens->size();
    }
  }
  return out;
}

at::Tensor hidden_at(const Model& model, const Tree& tree, Apply apply,
                     const std::vector<at::Tensor>& d) {
  at::Tensor all = model.forward(tree.tokens, tree.segments, apply, d);
  at::Tensor rows = index_tensor(tree.rows, model.device());
  // A prompt's last row is picked once per reply: on a GPU index_select's backward pass would add
  // their gradients in no fixed order, and index's sorts them first.
  if (all.is_cuda()) return all.index({rows});
  return all.index_select(0, rows);
}

}  // namespace

GradientResult z_gradient(const Model& model, const std::vector<ReplyGroup>& groups,
                          std::span<const float> z, const GradientOptions& options) {
  SVFLEET_CHECK(options.apply == Apply::kActivation || options.apply == Apply::kClosedForm,
                int(options.apply));
  const InStage inside(Stage::kLayer);
  GradientResult result;
  result.dz.assign(z.size(), 0);
  const Tree tree = pack(groups);
  if (tree.rows.empty()) {
    result.log_probs.resize(groups.size());
    return result;
  }
  std::vector<at::Tensor> d = model.expert_tensors(z, /*differentiable=*/true);
  at::Tensor hidden = hidden_at(model, tree, options.apply, d);  // [trained tokens, hidden]
  at::Tensor base;
  if (options.kl != KlLoss::kNone) {
    c10::NoGradGuard no_grad;
    base = hidden_at(model, tree, Apply::kFrozen, d);
  }

  const int64_t count = int64_t(tree.rows.size());
  std::vector<double> weights, kl_weights;
  for (const ReplyGroup& group : groups)
    for (const ReplyGroup::Reply& reply : group.replies)
      for (size_t i = 0; i < reply.tokens->size(); ++i) {
        weights.push_back(reply.weight);
        kl_weights.push_back(reply.kl_weight);
      }
  at::Tensor log_probs = at::empty(
      {count}, hidden.options().dtype(model.type() == at::kDouble ? at::kDouble : at::kFloat));
  at::Tensor d_hidden = at::empty_like(hidden);
  at::Tensor labels = index_tensor(tree.labels, model.device()).unsqueeze(1);
  {
    // dLoss/dlogits by hand, a block of rows at a time: the vocabulary is the largest thing here.
    c10::NoGradGuard no_grad;
    at::Tensor wide_weights = at::tensor(weights, log_probs.options()).unsqueeze(1);
    at::Tensor wide_kl = at::tensor(kl_weights, log_probs.options()).unsqueeze(1);
    for (int64_t start = 0; start < count; start += kBlock) {
      enter(Stage::kHead);
      const int64_t size = std::min(kBlock, count - start);
      auto block = [&](const at::Tensor& t) { return t.narrow(0, start, size); };
      at::Tensor log_pi = log_softmax_of(block(hidden), model.head(), options.temperature);
      at::Tensor pi = log_pi.exp();
      at::Tensor own = log_pi.gather(1, block(labels));
      block(log_probs).copy_(own.squeeze(1));
      at::Tensor weight = block(wide_weights);
      if (options.kl == KlLoss::kK2)  // d/dtheta of KL's k2 estimate is (log ratio) d log pi
        weight = weight - block(wide_kl) *
                              (own - log_softmax_of(block(base), model.head(), options.temperature)
                                         .gather(1, block(labels)));
      at::Tensor d_logits = pi * weight;
      d_logits.scatter_add_(1, block(labels), -weight);
      if (options.kl == KlLoss::kFull) {
        at::Tensor ratio = log_pi - log_softmax_of(block(base), model.head(), options.temperature);
        at::Tensor kl = (pi * ratio).sum(1, /*keepdim=*/true);
        d_logits += block(wide_kl) * pi * (ratio - kl);
      }
      if (options.temperature != 1) d_logits /= options.temperature;
      block(d_hidden).copy_(d_logits.to(hidden.scalar_type()).mm(model.head()));
    }
  }
  hidden.backward(d_hidden);
  enter(Stage::kCollect, double(tree.tokens.size()));  // on a GPU all of the backward pass may wait
  result.log_probs = by_reply(groups, log_probs);
  for (size_t t = 0; t < d.size(); ++t) {
    at::Tensor grad = d[t].grad();
    if (!grad.defined()) continue;  // no trained token reaches it
    grad = grad.to(at::kFloat).cpu().contiguous();
    std::copy(grad.data_ptr<float>(), grad.data_ptr<float>() + grad.numel(),
              result.dz.begin() + model.targets()[t].offset);
  }
  return result;
}

std::vector<std::vector<std::vector<float>>> reply_log_probs(const Model& model,
                                                             const std::vector<ReplyGroup>& groups,
                                                             Apply apply, std::span<const float> z,
                                                             double temperature) {
  c10::NoGradGuard no_grad;
  const InStage inside(Stage::kLayer);
  const Tree tree = pack(groups);
  if (tree.rows.empty()) return std::vector<std::vector<std::vector<float>>>(groups.size());
  std::vector<at::Tensor> d;
  if (apply == Apply::kActivation) d = model.expert_tensors(z, false);
  at::Tensor hidden = hidden_at(model, tree, apply, d);
  at::Tensor labels = index_tensor(tree.labels, model.device()).unsqueeze(1);
  std::vector<at::Tensor> parts;
  for (int64_t start = 0; start < hidden.size(0); start += kBlock) {
    enter(Stage::kHead);
    const int64_t size = std::min(kBlock, hidden.size(0) - start);
    parts.push_back(log_softmax_of(hidden.narrow(0, start, size), model.head(), temperature)
                        .gather(1, labels.narrow(0, start, size))
                        .squeeze(1));
  }
  return by_reply(groups, at::cat(parts));
}

}  // namespace svfleet
