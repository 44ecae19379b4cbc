// product_weights.h by oneDNN.
#include <algorithm>
#include <utility>

#include "worker/kernels/onednn_rows.h"
#include "worker/kernels/product_weights.h"

namespace svfleet {
namespace {

using dnnl::memory;

// Above kExactRows, pieces are of multiples of kRowStep rows, and of what remains, unless reading
// the matrix twice would cost more than it saves: a tenth of a megabyte for each number of rows.
constexpr int64_t kExactRows = 32, kRowStep = 16;
constexpr size_t kLargeBytes = 8 << 20;

class OnednnWeights : public ProductWeights {
 public:
  OnednnWeights(const ProductShape& shape, int threads, const PackedLayout& layout,
                const void* matrix)
      : ProductWeights(shape),
        threads_(threads),
        implementation_(layout.implementation),
        packed_(layout.description, onednn_engine()),
        products_(MatrixProducts::of({shape.type, shape.inputs, shape.outputs, threads},
                                     layout.description)) {
    reorder(plain(const_cast<void*>(matrix)), packed_);
  }

  void multiply(const void* x, int64_t rows, void* y, bool wide_result,
                const ProductExtra& extra) const override {
    const OnednnThreads threads(threads_);
    const ProductVariant variant{extra.add != nullptr, extra.bias != nullptr,
                                 wide_result && shape().type == NumberType::kBf16};
    const auto* from = static_cast<const std::byte*>(x);
    auto* to = static_cast<std::byte*>(y);
    const auto* add = static_cast<const float*>(extra.add);
    while (rows > 0) {
      const int64_t now = piece(rows);
      products_->at(now, variant).multiply(from, packed_, to, {add, extra.bias});
      rows -= now;
      from += size_t(now * shape().inputs) * entry();
      to += size_t(now * shape().outputs) * (wide_result ? sizeof(float) : entry());
      if (add) add += now * shape().outputs;
    }
  }

  void unpack(void* matrix) const override { reorder(packed_, plain(matrix)); }
  const void* data() const override { return packed_.get_data_handle(); }
  size_t bytes() const override { return packed_.get_desc().get_size(); }
  std::string implementation() const override { return implementation_; }

 private:
  size_t entry() const { return shape().type == NumberType::kBf16 ? 2 : 4; }

  // How many of the rows that are left go together: few different numbers that cost little.
  int64_t piece(int64_t left) const {
    if (left >= kRowBlock) return kRowBlock;
    if (left >= kMostRows) return kMostRows;
    if (left <= kExactRows || bytes() >= kLargeBytes) return left;
    return left / kRowStep * kRowStep;
  }

  memory plain(void* matrix) const {
    const auto order =
        shape().order == WeightOrder::kOutputs ? memory::format_tag::ba : memory::format_tag::ab;
    return {{{shape().inputs, shape().outputs}, packed_.get_desc().data_type(), order},
            onednn_engine(),
            matrix};
  }

  void reorder(const memory& from, const memory& to) const {
    const OnednnThreads threads(threads_);
    memory source = from, target = to;
    dnnl::stream stream(onednn_engine());
    dnnl::reorder(source, target).execute(stream, source, target);
    stream.wait();
  }

  int threads_;
  std::string implementation_;
  memory packed_;
  std::shared_ptr<MatrixProducts> products_;
};

}  // namespace

std::unique_ptr<ProductWeights> pack_for_onednn(const ProductShape& shape, const void* matrix) {
  const int threads = std::min(shape.threads, OnednnThreads::most());
  const PackedLayout layout = packed_layout({shape.type, shape.inputs, shape.outputs, threads});
  if (layout.implementation.empty()) return nullptr;
  return std::make_unique<OnednnWeights>(shape, threads, layout, matrix);
}

std::string onednn_version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
         std::to_string(v->patch) + " " + v->hash;
}

}  // namespace svfleet
