#include "tests/worker/model/bench_attention_tax.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <vector>

#include "comm/clock.h"
#include "worker/kernels/attention.h"

namespace svfleet {
namespace {

template <class F>
double median_s(int runs, F f) {
  std::vector<double> seconds;
  for (int run = 0; run <= runs; ++run) {  // the first warms up
    Stopwatch watch;
    f();
    seconds.push_back(watch.lap());
  }
  seconds.erase(seconds.begin());
  std::nth_element(seconds.begin(), seconds.begin() + runs / 2, seconds.end());
  return seconds[size_t(runs / 2)];
}

std::vector<bf16> noise(int64_t count) {
  const at::Tensor drawn = at::randn({count});
  std::vector<bf16> numbers;
  for (int64_t i = 0; i < count; ++i) numbers.push_back(to_bf16(drawn.data_ptr<float>()[i]));
  return numbers;
}

// Sequences in pages, and rows that attend to them.
struct Paged {
  AttentionShape shape;
  std::vector<std::vector<bf16>> pages;
  std::vector<std::vector<float>> d_pages;
  std::vector<std::vector<const bf16*>> lists;  // per sequence
  std::vector<std::vector<float*>> d_lists;
  std::vector<bf16> q, out, d_out;
  std::vector<float> log_sum, d_q;
  std::vector<AttentionRow<bf16>> rows;
  std::vector<AttentionGradientRow<bf16>> gradient_rows;

  Paged(const AttentionShape& of, int64_t sequences, int64_t length) : shape(of) {
    for (int64_t s = 0; s < sequences; ++s) {
      lists.emplace_back(), d_lists.emplace_back();
      for (int64_t at = 0; at < length; at += kPageTokens) {
        pages.push_back(noise(page_elements(shape)));
        d_pages.emplace_back(size_t(page_elements(shape)));
        lists.back().push_back(pages.back().data()),
            d_lists.back().push_back(d_pages.back().data());
      }
    }
  }

  // keys[i] of sequence sequence_of[i]
  void ask(const std::vector<int64_t>& sequence_of, const std::vector<int64_t>& keys) {
    const auto width = int64_t(shape.heads) * shape.head_dim, count = int64_t(keys.size());
    q = noise(count * width), d_out = noise(count * width);
    out.resize(q.size()), d_q.resize(q.size()), log_sum.resize(size_t(count * shape.heads));
    for (int64_t i = 0; i < count; ++i) {
      const auto s = size_t(sequence_of[size_t(i)]);
      float* sum = log_sum.data() + i * shape.heads;
      rows.push_back(
          {q.data() + i * width, lists[s].data(), keys[size_t(i)], out.data() + i * width, sum});
      gradient_rows.push_back({q.data() + i * width, out.data() + i * width, sum,
                               d_out.data() + i * width, lists[s].data(), d_lists[s].data(),
                               keys[size_t(i)], d_q.data() + i * width});
    }
  }
};

struct Fused {
  double forward_s, backward_s;
};

// q: [sequences, heads, tokens, head_dim], keys and values [sequences, heads, keys, head_dim].
Fused fused(const AttentionShape& shape, at::ScalarType type, int64_t sequences, int64_t tokens,
            int64_t keys, bool causal, int runs) {
  const auto drawn = [&](int64_t count) {
    return at::randn({sequences, shape.heads, count, shape.head_dim}).to(type);
  };
  const at::Tensor q = drawn(tokens), k = drawn(keys), v = drawn(keys), d_out = drawn(tokens);
  at::Tensor out, log_sum;
  const double forward = median_s(runs, [&] {
    std::tie(out, log_sum) =
        at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0, causal, {}, shape.scale);
  });
  const double backward = median_s(runs, [&] {
    at::_scaled_dot_product_flash_attention_for_cpu_backward(d_out, q, k, v, out, log_sum, 0,
                                                             causal, {}, shape.scale);
  });
  return {forward, backward};
}

Fused faster(const AttentionShape& shape, int64_t sequences, int64_t tokens, int64_t keys,
             bool causal, int runs) {
  const Fused half = fused(shape, at::kBFloat16, sequences, tokens, keys, causal, runs),
              whole = fused(shape, at::kFloat, sequences, tokens, keys, causal, runs);
  return {std::min(half.forward_s, whole.forward_s), std::min(half.backward_s, whole.backward_s)};
}

}  // namespace

nlohmann::json attention_tax(const Architecture& arch, int64_t rows, int64_t keys, int64_t tokens,
                             int runs) {
  c10::NoGradGuard no_grad;
  const AttentionShape shape{int(arch.heads), int(arch.kv_heads), int(arch.head_dim),
                             arch.attention_scale};
  Paged decode(shape, rows, keys), tree(shape, 1, tokens);
  std::vector<int64_t> each, up_to;
  for (int64_t i = 0; i < rows; ++i) each.push_back(i);
  for (int64_t i = 1; i <= tokens; ++i) up_to.push_back(i);
  decode.ask(each, std::vector<int64_t>(size_t(rows), keys));
  tree.ask(std::vector<int64_t>(size_t(tokens), 0), up_to);
  const auto forward = [&](Paged& p) {
    return median_s(runs, [&] { attend<bf16>(shape, p.rows, 1); });
  };
  const double decode_s = forward(decode), tree_s = forward(tree);
  const double gradient_s =
      median_s(runs, [&] { attend_gradient<bf16>(shape, tree.gradient_rows, 1); });
  const Fused row = faster(shape, rows, 1, keys, false, runs),
              all = faster(shape, 1, tokens, tokens, true, runs);
  return {{"decode", {{"ours", decode_s}, {"fused", row.forward_s}}},
          {"tree", {{"ours", tree_s}, {"fused", all.forward_s}}},
          {"tree_gradient", {{"ours", gradient_s}, {"fused", all.backward_s}}}};
}

}  // namespace svfleet
