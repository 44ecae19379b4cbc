#include "svd/certificate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "comm/random.h"
#include "svd/eigensolver.h"

namespace svfleet {
namespace {

constexpr int64_t kProbes = 3;
constexpr double kMostError = 1e-11;

// [kProbes, r], uniform in [-1, 1), so of variance 1/3: the same for every matrix of a size.
at::Tensor probes(int64_t r) {
  at::Tensor v = at::empty({kProbes, r}, at::kDouble);
  double* const to = v.data_ptr<double>();
  for (int64_t p = 0; p < kProbes; ++p)
    for (int64_t i = 0; i < r; ++i)
      to[p * r + i] = 2 * keyed_uniform(0, Stream::kProbe, uint64_t(p), uint64_t(i), 0) - 1;
  return v;
}

// |M|_F, from three rows M v.
double norm_of(const at::Tensor& moved) {
  return std::sqrt(3.0 / kProbes) * moved.norm().item<double>();
}

// X = Q~^T E in float32, on the host. It is a few 1e-8 in all; its own rounding, 1e-6 of that, does
// not count.
at::Tensor first_order(const at::Tensor& vectors, const at::Tensor& stored) {
  const at::Tensor rounded = stored.to(at::kFloat);  // the same numbers
  const at::Tensor e = rounded.to(at::kDouble).sub_(vectors).to(at::kFloat);
  if (!vectors.is_cpu()) return rounded.mm(e.t()).cpu();
  at::Tensor x = at::empty({e.size(0), e.size(0)}, at::kFloat);
  multiply_transposed(rounded.data_ptr<float>(), e.data_ptr<float>(), e.size(0), e.size(1),
                      x.data_ptr<float>());
  return x;
}

// |A Q D Y^T|_F^2, where E = Q X + N Y and N is orthogonal to Q, so that A N = 0 and only the thin
// factor that is not multiplied by A keeps it: W' has rows, or columns, outside of W's.
double out_of_span(const at::Tensor& vectors, const at::Tensor& stored, const at::Tensor& x,
                   const std::vector<double>& values, const std::vector<double>& d) {
  const at::Tensor e = stored.to(at::kDouble).sub_(vectors).square_().sum(1).cpu(),
                   in_span = x.to(at::kDouble).square_().sum(0);
  double all = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double out = e.data_ptr<double>()[i] - in_span.data_ptr<double>()[i];
    all += values[i] * d[i] * d[i] * std::max(0.0, out);
  }
  return all;
}

}  // namespace

double certified_move(int64_t i) {
  return 0.2 * std::fmod(0.6180339887498949 * double(i + 1), 1.0) - 0.1;
}

BasisErrors basis_errors(const at::Tensor& a, const at::Tensor& vectors, const at::Tensor& values) {
  const at::Tensor v = probes(vectors.size(0)).to(vectors.device());
  const at::Tensor moved = v.mm(vectors);                  // (Q v)^T
  const at::Tensor through = moved.mm(a.t()).mm(a);        // (A^T A Q v)^T
  const at::Tensor expected = v.mul(values).mm(vectors);   // (Q Lambda v)^T
  const at::Tensor turned = moved.mm(vectors.t()).sub(v);  // (Q^T Q v - v)^T
  const double size = values.norm().item<double>(), off = norm_of(through.sub(expected));
  return {off == 0 ? 0 : off / size, norm_of(turned) / std::sqrt(double(values.size(0)))};
}

void check_basis(const std::string& name, const at::Tensor& a, const at::Tensor& vectors,
                 const at::Tensor& values) {
  const BasisErrors errors = basis_errors(a, vectors, values);
  if (errors.residual <= kMostError && errors.orthogonality <= kMostError) return;  // no NaN
  throw make_error(kExitInternal, "the decomposition of '", name, "' failed its check: residual ",
                   errors.residual, ", orthogonality ", errors.orthogonality,
                   "; is another LAPACK in use?");
}

Certificate certify(const at::Tensor& vectors, const at::Tensor& stored,
                    const std::vector<double>& values) {
  const int64_t r = vectors.size(0), tile = 64;
  const at::Tensor first = first_order(vectors, stored);
  const float* const x = first.data_ptr<float>();
  std::vector<double> d(r);
  double skew = 0, off = 0, error = 0, size = 0, scale = 0;
  for (int64_t i = 0; i < r; ++i) {
    d[i] = certified_move(i);
    size += values[i] * values[i];
    scale += values[i] * (1 + d[i]) * (1 + d[i]);
  }
  // Q~^T Q~ - I = X + X^T; (A Q~)^T (A Q~) is off by Lambda X + (Lambda X)^T beside its diagonal;
  // and W' by A D with Q^T D Q = d X^T + X d.
  for (int64_t above = 0; above < r; above += tile)
    for (int64_t left = 0; left <= above; left += tile)
      for (int64_t i = above; i < std::min(above + tile, r); ++i)
        for (int64_t j = left; j < std::min(left + tile, i + 1); ++j) {
          const double ij = x[i * r + j], ji = x[j * r + i];
          const double both = i == j ? 1 : 2;  // (i, j) and (j, i)
          skew += both * (ij + ji) * (ij + ji);
          const double beside = i == j ? 0 : values[i] * ij + values[j] * ji;
          off += 2 * beside * beside;
          const double moved = d[i] * ji + d[j] * ij;
          error += both / 2 * (values[i] + values[j]) * moved * moved;
        }
  if (vectors.size(1) > r) error += out_of_span(vectors, stored, first, values, d);
  return {std::sqrt(skew / double(r)), off == 0 ? 0 : std::sqrt(off / size),
          error == 0 ? 0 : std::sqrt(error / scale)};
}

}  // namespace svfleet
