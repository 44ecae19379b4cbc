// The certificate against its definition, written out with products of the whole matrix; and that
// an orthogonal but wrong basis is refused.
#include "svd/certificate.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "comm/error.h"

namespace svfleet {
namespace {

// Small products in two threads, with others at work beside them, mostly wait.
[[maybe_unused]] const bool kOneThread = (at::set_num_threads(1), true);

double frobenius(const at::Tensor& t) {
  return t.norm().item<double>();
}

at::Tensor random_matrix(std::vector<int64_t> shape, int seed) {
  at::manual_seed(seed);
  return at::randn(shape, at::kDouble);
}

// A = P diag(sigma) V^T: vectors as rows, from LAPACK in libtorch.
struct Known {
  at::Tensor a, vectors, values;
  std::vector<double> lambda() const {
    return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
  }
};
Known known(int64_t rows, const at::Tensor& sigma, int seed) {
  const int64_t r = sigma.numel();
  auto [p, s, v] = at::linalg_svd(random_matrix({rows, r}, seed), false);
  return {(p * sigma).mm(v), v.contiguous(), sigma.square()};
}
// With more columns than singular values: vectors [r, columns].
Known thin(int64_t columns, const at::Tensor& sigma, int seed) {
  const int64_t r = sigma.numel();
  auto [p, s, v] = at::linalg_svd(random_matrix({r, columns}, seed), false);
  return {(p * sigma).mm(v), v.contiguous(), sigma.square()};
}

// Flat; a bulk with outliers, as in language models; condition 1e4 and 1e8; without rank.
std::vector<at::Tensor> spectra(int64_t r) {
  const at::Tensor i = at::arange(1, r + 1, at::kDouble);
  return {at::linspace(3, 1, r, at::kDouble), 1 + 50 / i.pow(1.2),
          at::pow(10.0, -4.0 * (i - 1) / double(r - 1)),
          at::pow(10.0, -8.0 * (i - 1) / double(r - 1)),
          at::where(i <= r / 2, 1 / i, at::zeros_like(i))};
}

Certificate by_definition(const Known& k, const at::Tensor& stored) {
  const int64_t r = k.vectors.size(0);
  const at::Tensor q = k.vectors.t(), rounded = stored.to(at::kDouble).t();
  at::Tensor d = at::empty({r}, at::kDouble);
  for (int64_t i = 0; i < r; ++i) d[i] = certified_move(i);
  at::Tensor gram = k.a.mm(rounded).t().mm(k.a.mm(rounded));
  const double size = frobenius(gram);
  gram.diagonal().zero_();
  const at::Tensor exact = k.a.mm((q * d).mm(q.t()));
  const at::Tensor moved = k.a.mm((rounded * d).mm(rounded.t()));
  return {frobenius(rounded.t().mm(rounded) - at::eye(r, at::kDouble)) / std::sqrt(double(r)),
          frobenius(gram) / size, frobenius(moved - exact) / frobenius(k.a + exact)};
}

TEST(Certificate, AgreesWithItsDefinition) {
  int number = 0;
  for (int64_t r : {40, 150})
    for (const at::Tensor& sigma : spectra(r)) {
      const Known k = known(2 * r + 7, sigma, ++number);
      for (at::ScalarType storage : {at::kFloat, at::kBFloat16}) {
        const at::Tensor stored = k.vectors.to(storage);
        const Certificate quick = certify(k.vectors, stored, k.lambda());
        const Certificate slow = by_definition(k, stored);
        const double within = storage == at::kFloat ? 1e-4 : 1e-2;
        EXPECT_NEAR(quick.orthogonality / slow.orthogonality, 1, within) << number;
        EXPECT_NEAR(quick.off_diagonal / slow.off_diagonal, 1, within) << number;
        EXPECT_NEAR(quick.predicted_error / slow.predicted_error, 1, within) << number;
        EXPECT_GT(slow.predicted_error, 1e-9) << "control: there is something to measure";
      }
      // Control: a basis that was stored with two rows of another type's rounding is noticed.
      const at::Tensor stored = k.vectors.to(at::kFloat);
      at::Tensor worse = stored.clone();
      worse.narrow(0, 0, 2).copy_(worse.narrow(0, 0, 2).to(at::kBFloat16));
      EXPECT_GT(certify(k.vectors, worse, k.lambda()).predicted_error,
                10 * certify(k.vectors, stored, k.lambda()).predicted_error);
    }
}

TEST(Certificate, OfAThinBasisAgreesWithItsDefinition) {
  int number = 0;
  for (int64_t columns : {43, 60, 200})
    for (const at::Tensor& sigma : spectra(40)) {
      const Known k = thin(columns, sigma, ++number);
      for (at::ScalarType storage : {at::kFloat, at::kBFloat16}) {
        const at::Tensor stored = k.vectors.to(storage);
        const Certificate quick = certify(k.vectors, stored, k.lambda()),
                          slow = by_definition(k, stored);
        const double within = storage == at::kFloat ? 1e-4 : 1e-2;
        EXPECT_NEAR(quick.orthogonality / slow.orthogonality, 1, within) << number;
        EXPECT_NEAR(quick.off_diagonal / slow.off_diagonal, 1, within) << number;
        EXPECT_NEAR(quick.predicted_error / slow.predicted_error, 1, within) << number;
        // Control: with the rounding outside of the span taken away another error is predicted.
        const at::Tensor in_span = stored.to(at::kDouble).mm(k.vectors.t()).mm(k.vectors);
        EXPECT_GT(slow.predicted_error,
                  (columns > 43 ? 1.01 : 1) * by_definition(k, in_span).predicted_error);
      }
    }
}

TEST(CheckBasis, OfAThinBasis) {
  const at::Tensor sigma = 1 + 50 / at::arange(1, 41, at::kDouble).pow(1.2);
  const Known k = thin(60, sigma, 5);
  check_basis("the weight", k.a, k.vectors, k.values);
  const auto [p, s, all] = at::linalg_svd(k.a, true);
  at::Tensor wrong = k.vectors.clone();
  wrong[39].copy_(all[59]);  // of the null space
  EXPECT_THROW(check_basis("the weight", k.a, wrong, k.values), Error);
}

// Nothing is lost where nothing is rounded, and a weight that is zero.
TEST(Certificate, OfNothingIsZero) {
  Known k = known(50, at::ones({20}, at::kDouble), 1);
  const Certificate exact = certify(at::eye(20, at::kDouble), at::eye(20, at::kFloat), k.lambda());
  EXPECT_EQ(exact.orthogonality + exact.off_diagonal + exact.predicted_error, 0);
  const Certificate zero =
      certify(k.vectors, k.vectors.to(at::kFloat), std::vector<double>(20, 0.0));
  EXPECT_GT(zero.orthogonality, 1e-9);
  EXPECT_EQ(zero.off_diagonal + zero.predicted_error, 0);
}

TEST(BasisErrors, AreAboutWhatTheDefinitionGives) {
  for (int seed = 1; seed <= 8; ++seed) {
    Known k = known(90, 1 + 50 / at::arange(1, 41, at::kDouble), seed);
    const at::Tensor wrong = k.vectors + 1e-6 * random_matrix({40, 40}, seed + 100);
    const at::Tensor residual = k.a.t().mm(k.a).mm(wrong.t()) - wrong.t() * k.values;
    const at::Tensor skew = wrong.mm(wrong.t()) - at::eye(40, at::kDouble);
    const BasisErrors errors = basis_errors(k.a, wrong, k.values);
    EXPECT_NEAR(errors.residual / (frobenius(residual) / frobenius(k.values)), 1, 0.7) << seed;
    EXPECT_NEAR(errors.orthogonality / (frobenius(skew) / std::sqrt(40.0)), 1, 0.7) << seed;
  }
}

void expect_refused(const Known& k, const at::Tensor& vectors, const at::Tensor& values,
                    const std::string& what) {
  try {
    check_basis("the weight", k.a, vectors, values);
    ADD_FAILURE() << what << " passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitInternal);
    EXPECT_NE(std::string(error.what()).find("the weight"), std::string::npos) << what;
  }
}

at::Tensor swapped(const at::Tensor& t, int64_t i, int64_t j) {
  at::Tensor other = t.clone();
  other[i].copy_(t[j]);
  other[j].copy_(t[i]);
  return other;
}

TEST(CheckBasis, RefusesWhatIsOrthogonalButWrong) {
  for (const at::Tensor& sigma : spectra(40)) {
    const Known k = known(90, sigma, 3);
    check_basis("the weight", k.a, k.vectors, k.values);  // the right one passes
    expect_refused(k, swapped(k.vectors, 0, 1), k.values, "swapped columns");
    expect_refused(k, k.vectors, swapped(k.values, 3, 4), "swapped values");
    // Two eigenvectors turned into each other by a millionth.
    at::Tensor turned = k.vectors.clone();
    turned[2].copy_(k.vectors[2] + 1e-6 * k.vectors[7]);
    turned[7].copy_(k.vectors[7] - 1e-6 * k.vectors[2]);
    expect_refused(k, turned, k.values, "turned columns");
    // The very basis of a Gram matrix in which one entry is wrong by a millionth of the largest.
    at::Tensor gram = k.a.t().mm(k.a);
    const double by = 1e-6 * gram.abs().max().item<double>();
    gram[5][11] += by, gram[11][5] += by;
    auto [values, vectors] = at::linalg_eigh(gram, "L");
    expect_refused(k, vectors.t().contiguous(), values, "another Gram matrix");
    auto [q, triangle] = at::linalg_qr(random_matrix({40, 40}, 9));
    expect_refused(k, q.contiguous(), k.values, "any orthogonal basis");
    // And what is not orthogonal, or no number.
    at::Tensor longer = k.vectors.clone();
    longer[39].mul_(1 + 1e-6);
    expect_refused(k, longer, k.values, "a column that is too long");
    longer[39][0] = std::nan("");
    expect_refused(k, longer, k.values, "a NaN");
  }
}

}  // namespace
}  // namespace svfleet
