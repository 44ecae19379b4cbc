#include "worker/model/row_probe.h"

#include <map>
#include <mutex>
#include <tuple>

#include "comm/error.h"
#include "worker/kernels/probe.h"

namespace svfleet {
namespace {

// Up to the rows that a product takes at once; of matrices as large as the head, which would take
// long, up to those that are told apart.
int64_t largest_batch(const PackedMatrix& matrix) {
  return matrix.inputs() * matrix.outputs() < (int64_t{8} << 20) ? 300 : 80;
}

}  // namespace

int64_t least_rows(const PackedMatrix& matrix, NumberType type, WeightOrder order, int threads) {
  if (type == NumberType::kDouble) return 1;  // our own loop
  static std::mutex mutex;
  static std::map<std::tuple<NumberType, WeightOrder, int, int64_t, int64_t>, int64_t> known;
  const auto kind = std::tuple(type, order, threads, matrix.inputs(), matrix.outputs());
  std::lock_guard lock(mutex);
  const auto found = known.find(kind);
  if (found != known.end()) return found->second;
  const int64_t least = row_invariant_from(matrix, largest_batch(matrix));
  if (least == 0)
    throw user_error("on this processor a product of ", matrix.inputs(), " x ", matrix.outputs(),
                     " gives a row other bits beside other rows, at any number of rows; svfleet "
                     "cannot keep its promises here: try another number of threads, or another "
                     "model.dtype");
  return known[kind] = least;
}

}  // namespace svfleet
