// Times of elementwise.h and vocabulary.h at the sizes of a small model, one thread.
//   g++ -O2 -fopenmp -I. tests/worker/kernels/bench_elementwise.cc <the room's objects>
#include <chrono>
#include <cstdio>

#include "tests/worker/kernels/every_kernels.h"
#include "worker/kernels/elementwise.h"
#include "worker/kernels/vocabulary.h"

namespace svfleet {
namespace {

// The shortest of several calls, in microseconds.
template <class F>
double shortest(F f) {
  double best = 1e30;
  for (int i = 0; i < 15; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

template <class F>
void tell(const char* name, int64_t elements, double bytes, F f) {
  const double us = shortest(f);
  std::printf("  %-26s %9.1f us  %6.3f ns/element  %6.1f GB/s\n", name, us,
              1e3 * us / double(elements), bytes / us / 1e3);
}

void elementwise(int64_t rows) {
  const int64_t width = 576, inner = 1536, n = rows * width, m = rows * inner;
  const auto x = normals<bf16>(n, 1, 1), weight = normals<bf16>(width, 1, 2);
  const auto gate = normals<bf16>(m, 2, 3), up = normals<bf16>(m, 1, 4);
  const auto d = normals<float>(m, 1, 5), angles = normals<float>(rows * 32, 1, 6);
  std::vector<bf16> out(m), h = x;
  std::vector<float> inverse(rows), d_x(m), d_y(m), scale(64);
  const std::vector<uint64_t> keys(rows, 3);
  std::vector<double> sums(64);
  tell("rms_norm", n, 4. * n, [&] {
    rms_norm<bf16>(x.data(), weight.data(), rows, width, 1e-5, out.data(), inverse.data(), 1);
  });
  tell("rms_norm_gradient", n, 14. * n, [&] {
    rms_norm_gradient<bf16>(x.data(), weight.data(), inverse.data(), d.data(), rows, width,
                            d_x.data(), 1);
  });
  tell("rotate", n, 4. * n, [&] {
    rotate<bf16>(h.data(), angles.data(), angles.data(), rows, {9, 64, 64}, 1);
  });
  tell("gate_product", m, 6. * m,
       [&] { gate_product<bf16>(Activation::kSilu, gate.data(), up.data(), m, out.data(), 1); });
  tell("gate_product_gradient", m, 16. * m, [&] {
    gate_product_gradient<bf16>(Activation::kSilu, gate.data(), up.data(), d.data(), m, d_x.data(),
                                d_y.data(), 1);
  });
  tell("add_rows", n, 6. * n, [&] { add_rows<bf16>(h.data(), x.data(), n, 1); });
  tell("round_to", m, 6. * m, [&] { round_to<bf16>(d.data(), m, out.data(), 1); });
  tell("add_keyed", n, 8. * n,
       [&] { add_keyed<bf16>(x.data(), d.data(), keys.data(), rows, width, out.data(), 1); });
  tell("scale_rows (r 64)", rows * 64, 6. * rows * 64,
       [&] { scale_rows<bf16>(d.data(), scale.data(), nullptr, rows, 64, out.data(), 1); });
  tell("add_products (r 64)", rows * 64, 8. * rows * 64,
       [&] { add_products<float>(d.data(), d_x.data(), rows, 64, sums.data(), 1); });
}

void vocabulary(int64_t rows) {
  const int64_t v = 49152, n = rows * v;
  const auto logits = normals<float>(n, 3, 7), base = normals<float>(n, 3, 8);
  std::vector<RowSums<float>> sums(rows), base_sums(rows);
  std::vector<bf16> d(n);
  std::vector<float> pi(v);
  const std::vector<int> labels(rows, 5);
  const std::vector<double> weights(rows, 1);
  tell("vocabulary_sums", n, 4. * n,
       [&] { vocabulary_sums<float>(logits.data(), rows, v, 1, false, sums.data(), 1); });
  tell("vocabulary_sums, entropy", n, 4. * n,
       [&] { vocabulary_sums<float>(logits.data(), rows, v, 1, true, sums.data(), 1); });
  vocabulary_sums<float>(base.data(), rows, v, 1, false, base_sums.data(), 1);
  tell("draw_token", rows, 4. * rows * 768, [&] {
    for (int64_t row = 0; row < rows; ++row)
      draw_token<float>(logits.data() + row * v, v, 1, 0.4, sums[row]);
  });
  tell("probabilities, one row", v, 8. * v,
       [&] { probabilities<float>(logits.data(), v, 1, sums[0], pi.data()); });
  tell("loss_gradient", n, 6. * n, [&] {
    loss_gradient<bf16>(logits.data(), nullptr, rows, v, 1, sums.data(), nullptr, labels.data(),
                        weights.data(), nullptr, d.data(), 1);
  });
  tell("loss_gradient, full KL", n, 18. * n, [&] {
    loss_gradient<bf16>(logits.data(), base.data(), rows, v, 1, sums.data(), base_sums.data(),
                        labels.data(), weights.data(), weights.data(), d.data(), 1);
  });
}

}  // namespace
}  // namespace svfleet

int main() {
  using namespace svfleet;
  for (Kernels which : every_kernels()) {
    const WithKernels with(which);
    std::printf("%s\n", which == Kernels::kPlain  ? "plain"
                        : which == Kernels::kAvx2 ? "AVX2"
                                                  : "AVX-512");
    for (int64_t rows : {16, 300}) {
      std::printf(" %d rows\n", int(rows));
      elementwise(rows);
    }
    for (int64_t rows : {16, 128}) {
      if (rows > 16 && which == Kernels::kPlain) continue;
      std::printf(" %d rows of 49152 logits\n", int(rows));
      vocabulary(rows);
    }
  }
}
