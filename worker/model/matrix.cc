#include "worker/model/matrix.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>

#include "comm/error.h"
#include "worker/kernels/product.h"
#ifdef SVFLEET_HAVE_CUDA
#include "worker/model/gpu_kernels.h"
#endif
#include "worker/model/operations.h"
#include "worker/model/row_probe.h"
#include "worker/model/typed.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

NumberType number_type(at::ScalarType type) {
  if (type == at::kBFloat16) return NumberType::kBf16;
  return type == at::kDouble ? NumberType::kDouble : NumberType::kFloat;
}

// The same on a GPU.
at::Tensor on_gpu(const at::Tensor& x, const at::Tensor& plain, bool back,
                  const Matrix::Added& added, bool wide) {
#ifdef SVFLEET_HAVE_CUDA
  if (gpu::has_kernels(x))
    return gpu::kernels::product(x, plain, back, added.rows, added.bias, wide);
#endif
  const at::Tensor m = back ? plain : plain.t();
  const at::ScalarType type = wide_of(x);
  at::Tensor y =
      x.scalar_type() == type || !x.is_cuda() ? x.to(type).mm(m.to(type)) : at::mm(x, m, type);
  if (added.rows.defined()) y.add_(added.rows);
  if (added.bias.defined()) y.add_(added.bias.to(type));
  return wide ? y : y.to(x.scalar_type());
}

}  // namespace

struct Matrix::Held {
  struct Pack {
    std::once_flag once;
    std::optional<PackedMatrix> matrix;
    int64_t least_rows = 1;  // from which on a row's bits do not depend on their number
    std::atomic<bool> made = false;
  };
  at::Tensor plain;
  bool looked_up;
  at::ScalarType type;
  int64_t outputs, inputs;
  Pack packs[2];  // x M^T, x M
  std::atomic<int64_t> products = 0;

  at::Tensor unpacked() const {
    at::Tensor made = at::empty({outputs, inputs}, at::TensorOptions(type));
    for (const Pack& pack : packs)
      if (pack.matrix) {
        pack.matrix->unpack(made.data_ptr());
        return made;
      }
    SVFLEET_CHECK(false, "a matrix was given up");
    return made;
  }

  // What multiplies: a copy of its own direction, or else one of the other that turns.
  const Pack& pack_for(bool back) {
    const Pack& other = packs[!back];
    if (!packs[back].made && other.made && other.matrix->turns()) return other;
    return pack(back);
  }

  const Pack& pack(bool back) {
    Pack& pack = packs[back];
    std::call_once(pack.once, [&] {
      const at::Tensor from = plain.defined() ? plain : unpacked();
      const WeightOrder order = back ? WeightOrder::kInputs : WeightOrder::kOutputs;
      const int threads = compute_threads();
      pack.matrix.emplace(number_type(type), from.data_ptr(), back ? outputs : inputs,
                          back ? inputs : outputs, order, threads);
      pack.least_rows = least_rows(*pack.matrix, number_type(type), order, threads);
      pack.made = true;
    });
    return pack;
  }
};

Matrix::Matrix(at::Tensor plain, bool looked_up) : held_(std::make_shared<Held>()) {
  held_->type = plain.scalar_type();
  held_->outputs = plain.size(0);
  held_->inputs = plain.size(1);
  held_->plain = plain.contiguous();
  held_->looked_up = looked_up;
}

at::Tensor Matrix::plain() const {
  SVFLEET_CHECK(held_, "no matrix");
  return held_->plain.defined() ? held_->plain : held_->unpacked();
}

at::Tensor Matrix::plain_if_kept() const {
  return held_->plain;
}

at::ScalarType Matrix::type() const {
  return held_->type;
}

at::Tensor Matrix::look_up(std::span<const int> rows) const {
  if (held_->plain.defined())
    return held_->plain.index_select(
        0, index_tensor({rows.begin(), rows.end()}, held_->plain.device()));
  at::Tensor found = at::empty({int64_t(rows.size()), held_->inputs}, at::TensorOptions(type()));
  auto* to = static_cast<std::byte*>(found.data_ptr());
  for (size_t i = 0; i < rows.size(); ++i)
    held_->packs[0].matrix->unpack_output(rows[i],
                                          to + i * size_t(found.stride(0)) * found.element_size());
  return found;
}

void Matrix::keep_packed(bool times, bool back, bool few_rows) const {
  if (held_->plain.is_cuda() || (!times && !back)) return;
  for (const bool direction : {false, true})
    if (direction ? back : times) few_rows ? held_->pack(direction) : held_->pack_for(direction);
  const Held::Pack& straight = held_->packs[0];
  if (!held_->looked_up || (straight.made && straight.matrix->turns())) held_->plain.reset();
}

std::vector<at::Tensor> Matrix::packed() const {
  std::vector<at::Tensor> all;
  for (const auto& pack : held_->packs)
    if (pack.matrix)
      all.push_back(at::from_blob(
          const_cast<void*>(pack.matrix->data()), {int64_t(pack.matrix->bytes())},
          [held = held_](void*) {}, at::kByte));
  return all;
}

int64_t Matrix::products() const {
  return held_->products;
}

at::Tensor Matrix::product(const at::Tensor& x, bool back, bool wide, const Added& added) const {
  const int64_t in = back ? held_->outputs : held_->inputs,
                out = back ? held_->inputs : held_->outputs;
  SVFLEET_CHECK(x.dim() == 2 && x.size(1) == in && x.scalar_type() == held_->type, "rows of ",
                x.size(-1), " for a matrix of ", in, " inputs");
  ++held_->products;
  if (x.is_cuda()) return on_gpu(x, held_->plain, back, added, wide);
  const Held::Pack& pack = held_->pack_for(back);
  const int64_t rows = x.size(0), padded = std::max(rows, pack.least_rows);
  at::Tensor from = x.contiguous(),
             add = added.rows.defined() ? added.rows.contiguous() : at::Tensor();
  if (padded > rows) {
    from = at::constant_pad_nd(from, {0, 0, 0, padded - rows});
    if (add.defined()) add = at::constant_pad_nd(add, {0, 0, 0, padded - rows});
  }
  at::Tensor y = at::empty({padded, out}, x.options().dtype(wide ? wide_of(x) : held_->type));
  const ProductExtra extra{.add = data_of<void>(add), .bias = data_of<void>(added.bias)};
  if (&pack == &held_->packs[back])
    pack.matrix->multiply(from.data_ptr(), padded, y.data_ptr(), wide, extra);
  else
    pack.matrix->multiply_turned(from.data_ptr(), padded, y.data_ptr(), wide, extra);
  return padded > rows ? y.narrow(0, 0, rows) : y;
}

at::Tensor Matrix::times(const at::Tensor& x, const Added& added) const {
  return product(x, false, false, added);
}
at::Tensor Matrix::times_wide(const at::Tensor& x, const Added& added) const {
  return product(x, false, true, added);
}
at::Tensor Matrix::back(const at::Tensor& x, const Added& added) const {
  return product(x, true, false, added);
}
at::Tensor Matrix::back_wide(const at::Tensor& x, const Added& added) const {
  return product(x, true, true, added);
}

}  // namespace svfleet
