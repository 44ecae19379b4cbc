#include "worker/kernels/product.h"

#include <stdexcept>
#include <utility>

#include "worker/kernels/instruction_set.h"
#include "worker/kernels/product_weights.h"

namespace svfleet {
namespace {

std::unique_ptr<ProductWeights> pack(const ProductShape& shape, const void* matrix) {
  if (shape.inputs < 1 || shape.outputs < 1 || shape.threads < 1) {
    throw std::invalid_argument("a packed matrix of " + std::to_string(shape.inputs) +
                                " inputs and " + std::to_string(shape.outputs) + " outputs for " +
                                std::to_string(shape.threads) + " threads");
  }
  // On AVX-512 both are as fast, and panels need no second copy to multiply the other way round.
  if (shape.type == NumberType::kBf16) {
    if (has_matrix_instructions())
      if (auto weights = pack_for_onednn(shape, matrix)) return weights;
    if (auto weights = pack_pairs(shape, matrix)) return weights;
  }
  return pack_in_panels(shape, matrix);
}

}  // namespace

void ProductWeights::multiply_turned(const void*, int64_t, void*, bool, const ProductExtra&) const {
  throw std::logic_error("a packed matrix that does not turn");
}

void ProductWeights::unpack_output(int64_t, void*) const {
  throw std::logic_error("a packed matrix that gives no single outputs");
}

PackedMatrix::PackedMatrix(NumberType type, const void* matrix, int64_t inputs, int64_t outputs,
                           WeightOrder order, int threads)
    : weights_(pack({type, inputs, outputs, order, threads}, matrix)) {}

PackedMatrix::PackedMatrix(std::unique_ptr<ProductWeights> weights)
    : weights_(std::move(weights)) {}

PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;
PackedMatrix::~PackedMatrix() = default;

void PackedMatrix::multiply(const void* x, int64_t rows, void* y, bool wide_result,
                            const Extra& extra) const {
  if (rows > 0) weights_->multiply(x, rows, y, wide_result, extra);
}

bool PackedMatrix::turns() const {
  return weights_->turns();
}

void PackedMatrix::multiply_turned(const void* x, int64_t rows, void* y, bool wide_result,
                                   const Extra& extra) const {
  if (rows > 0) weights_->multiply_turned(x, rows, y, wide_result, extra);
}

void PackedMatrix::unpack_output(int64_t output, void* entries) const {
  weights_->unpack_output(output, entries);
}

void PackedMatrix::unpack(void* matrix) const {
  weights_->unpack(matrix);
}

NumberType PackedMatrix::type() const {
  return weights_->shape().type;
}
int64_t PackedMatrix::inputs() const {
  return weights_->shape().inputs;
}
int64_t PackedMatrix::outputs() const {
  return weights_->shape().outputs;
}
int PackedMatrix::threads() const {
  return weights_->shape().threads;
}
const void* PackedMatrix::data() const {
  return weights_->data();
}
size_t PackedMatrix::bytes() const {
  return weights_->bytes();
}
std::string PackedMatrix::implementation() const {
  return weights_->implementation();
}

std::string product_identity() {
  const float zeros[16 * 16] = {};
  const auto of = [&](NumberType type) {
    return PackedMatrix(type, zeros, 16, 16, WeightOrder::kInputs, 1).implementation();
  };
  return "oneDNN " + onednn_version() + ": bf16 by " + of(NumberType::kBf16) + ", float32 by " +
         of(NumberType::kFloat);
}

}  // namespace svfleet
