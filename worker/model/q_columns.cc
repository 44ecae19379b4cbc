#include "worker/model/q_columns.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>

#include "comm/error.h"
#include "worker/model/typed.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.nbytes() == y.nbytes() && std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

// Rows of numbers of all sizes and both signs.
at::Tensor some_rows(int64_t columns, at::ScalarType type, double step) {
  constexpr int64_t kRows = 5;
  const at::Tensor places = at::arange(1, kRows * columns + 1, at::kDouble);
  return (places * step).sin().mul(3).reshape({kRows, columns}).to(type);
}

// Whether both products, with what may be added to them, have the bits of those with all of q.
bool gives_the_bits_of(const Matrix& q, const QColumns& some) {
  const int64_t width = q.plain().size(0), all = q.plain().size(1);
  const at::Tensor places = at::tensor(some.places, at::kLong);
  const at::Tensor x = some_rows(width, q.type(), 1.7);
  if (!same_bits(q.back_wide(x).index_select(1, places), some.q.back_wide(x))) return false;
  const at::Tensor moves = at::zeros({all}, q.type()).index_fill_(0, places, 1);
  const at::Tensor d = some_rows(all, q.type(), 0.9) * moves;  // zeros of both signs
  const at::Tensor few = d.index_select(1, places).contiguous();
  const at::Tensor add = some_rows(width, wide_of(x), 0.3);
  return same_bits(q.times_wide(d), some.q.times_wide(few)) &&
         same_bits(q.times(d, {.rows = add}), some.q.times(few, {.rows = add}));
}

}  // namespace

std::vector<int64_t> block_places(const std::vector<bool>& moved) {
  std::vector<int64_t> places;
  const auto count = int64_t(moved.size());
  for (int64_t first = 0; first < count; first += kColumnBlock) {
    const int64_t end = std::min(count, first + kColumnBlock);
    if (std::find(moved.begin() + first, moved.begin() + end, true) == moved.begin() + end)
      continue;
    for (int64_t i = first; i < end; ++i) places.push_back(i);
  }
  return places;
}

std::shared_ptr<const QColumns> columns_of(const Matrix& q, std::vector<int64_t> places) {
  c10::NoGradGuard no_grad;
  const at::Tensor plain = q.plain();
  const int64_t all = plain.size(1);
  if (plain.is_cuda() || 2 * int64_t(places.size()) > all) return nullptr;
  auto some = std::make_shared<QColumns>();
  some->q = Matrix(plain.index_select(1, at::tensor(places, at::kLong)));
  some->places = std::move(places);
  try {
    some->q.keep_packed(true, true, /*few_rows=*/true);
  } catch (const Error&) {  // of so few columns no number of rows has bits of its own: least_rows
    return nullptr;
  }
  static std::mutex mutex;
  static std::map<std::tuple<at::ScalarType, int64_t, int64_t, size_t, int>, bool> known;
  const std::tuple shape(q.type(), plain.size(0), all, some->places.size(), compute_threads());
  std::lock_guard lock(mutex);
  auto found = known.find(shape);
  if (found == known.end()) found = known.emplace(shape, gives_the_bits_of(q, *some)).first;
  if (!found->second) return nullptr;
  return some;
}

}  // namespace svfleet
