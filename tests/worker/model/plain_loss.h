// The loss of groups of replies by PlainDecoder, and how far numbers lie apart.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/worker/model/plain_decoder.h"
#include "worker/model/gradient.h"

namespace svfleet {

// The loss by the plain way: every reply its own sequence, prompt included, nothing shared.
inline at::Tensor plain_loss(const Weights& weights, const PlainDecoder& policy,
                             const ReplyGroup& group, double temperature, KlLoss kl) {
  const PlainDecoder base(weights);
  at::Tensor loss = at::zeros({}, at::kDouble);
  for (const auto& reply : group.replies) {
    std::vector<int> tokens = *group.prompt;
    tokens.insert(tokens.end(), reply.tokens->begin(), reply.tokens->end());
    const int64_t n = int64_t(tokens.size()), first = int64_t(group.prompt->size()) - 1;
    const auto log_pi = [&](const PlainDecoder& of) {
      return at::log_softmax(of.logits(tokens) / temperature, -1).narrow(0, first, n - 1 - first);
    };
    at::Tensor labels = at::empty({n - 1 - first, 1}, at::kLong);
    for (int64_t i = 0; i < labels.size(0); ++i) labels[i][0] = tokens[first + 1 + i];
    const at::Tensor lp = log_pi(policy);
    loss = loss - reply.weight * lp.gather(1, labels).sum();
    if (kl == KlLoss::kNone) continue;
    const at::Tensor of_base = log_pi(base).detach();
    const at::Tensor term = kl == KlLoss::kK2 ? (lp - of_base).gather(1, labels).square() / 2
                                              : (lp.exp() * (lp - of_base)).sum(-1);
    loss = loss + reply.kl_weight * term.sum();
  }
  return loss;
}

inline std::vector<double> flat(const std::vector<at::Tensor>& parts) {
  std::vector<double> out;
  for (const at::Tensor& part : parts) {
    const at::Tensor values = part.to(at::kDouble).contiguous();
    out.insert(out.end(), values.data_ptr<double>(), values.data_ptr<double>() + values.numel());
  }
  return out;
}

template <class A, class B>
double gap(const A& a, const B& b) {
  double largest = 0, worst = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
    largest = std::max(largest, std::abs(double(b[i])));
  }
  return worst / largest;
}

template <class A, class B>
double cosine(const A& a, const B& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i)
    ab += double(a[i]) * b[i], aa += double(a[i]) * a[i], bb += double(b[i]) * b[i];
  return ab / std::sqrt(aa * bb);
}

}  // namespace svfleet
