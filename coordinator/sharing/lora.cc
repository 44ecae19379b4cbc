#include "coordinator/sharing/lora.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "comm/error.h"

namespace svfleet {

LoraFactors lora_of(const Factor& factor, const at::Tensor& weight, std::span<const float> z,
                    int64_t most) {
  c10::NoGradGuard no_grad;
  SVFLEET_CHECK(int64_t(z.size()) == factor.target.length(), z.size(), " scales for ",
                factor.target.length());
  LoraFactors lora;
  std::vector<double> size(z.size());  // |sigma (z-1)|
  std::vector<int64_t> kept;
  for (size_t i = 0; i < z.size(); ++i) {
    size[i] = std::abs(factor.sigma[i] * (double(z[i]) - 1));
    lora.norm2 += size[i] * size[i];
    if (size[i] > 0) kept.push_back(int64_t(i));
  }
  lora.moved = int64_t(kept.size());
  if (lora.moved > most) {
    std::stable_sort(kept.begin(), kept.end(),
                     [&](int64_t i, int64_t j) { return size[i] > size[j]; });
    for (size_t i = size_t(most); i < kept.size(); ++i) lora.lost2 += size[kept[i]] * size[kept[i]];
    kept.resize(size_t(most));
    std::sort(kept.begin(), kept.end());
  }
  at::Tensor d = at::empty({int64_t(kept.size())}, at::kDouble);
  for (size_t i = 0; i < kept.size(); ++i) d.data_ptr<double>()[i] = double(z[kept[i]]) - 1;
  const at::Tensor q =
      factor.q.cpu().to(at::kDouble).index_select(1, at::tensor(kept, at::kLong));  // [r, k]
  const bool right = factor.target.form == Form::kRight;
  lora.b = ((right ? weight.mm(q) : q) * d).to(at::kFloat).contiguous();
  lora.a = (right ? q.t() : q.t().mm(weight)).to(at::kFloat).contiguous();
  return lora;
}

}  // namespace svfleet
