#include <omp.h>

#include <array>
#include <atomic>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <new>
#include <tuple>
#include <vector>

#include "worker/kernels/product_weights.h"

namespace svfleet {
namespace {

using dnnl::memory;

constexpr int64_t kExactRows = 64;       // up to here, a primitive may be for any number of rows
constexpr int64_t kRowStep = 16;         // but is only for multiples of this, and what remains,
constexpr size_t kLargeBytes = 8 << 20;  // unless reading the matrix twice would cost more
constexpr size_t kVariants = 8;

const dnnl::engine& processor() {
  static const dnnl::engine* engine = [] {
    // The primitives kept here are all there are; oneDNN's own cache would keep dead ones, too.
    dnnl::set_primitive_cache_capacity(0);
    return new dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return *engine;
}

memory::data_type data_type(NumberType type) {
  return type == NumberType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// oneDNN divides work for the threads that there are when a primitive is made.
class WithThreads {
 public:
  explicit WithThreads(int threads) : before_(omp_get_max_threads()) {
    if (threads != before_) omp_set_num_threads(threads);
    changed_ = threads != before_;
  }
  ~WithThreads() {
    if (changed_) omp_set_num_threads(before_);
  }
  WithThreads(const WithThreads&) = delete;

 private:
  int before_;
  bool changed_;
};

struct Variant {
  bool add, bias, wide;
  size_t index() const { return size_t(add) | size_t(bias) << 1 | size_t(wide) << 2; }
};

dnnl::matmul::primitive_desc describe(const ProductShape& shape, const memory::desc& weights,
                                      int64_t rows, Variant variant) {
  using tag = memory::format_tag;
  const auto type = data_type(shape.type);
  const auto row_major = [](int64_t m, int64_t n, memory::data_type t) {
    return memory::desc({m, n}, t, tag::ab);
  };
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (variant.add) {
    dnnl::post_ops after;
    after.append_binary(dnnl::algorithm::binary_add,
                        row_major(rows, shape.outputs, memory::data_type::f32));
    attributes.set_post_ops(after);
  }
  const memory::desc x = row_major(rows, shape.inputs, type);
  const memory::desc y =
      row_major(rows, shape.outputs, variant.wide ? memory::data_type::f32 : type);
  const auto operation = variant.bias
                             ? dnnl::matmul::desc(x, weights, row_major(1, shape.outputs, type), y)
                             : dnnl::matmul::desc(x, weights, y);
  return {operation, attributes, processor()};
}

bool row_invariant(const dnnl::matmul::primitive_desc& primitive) {
  return std::string(primitive.impl_info_str()).starts_with("brg:avx512_core");
}

// Working memory of one thread's primitive, kept for its next one.
void* scratch(size_t bytes) {
  constexpr std::align_val_t kAlignment{4096};
  struct Free {
    void operator()(void* p) const { ::operator delete(p, kAlignment); }
  };
  thread_local std::unique_ptr<void, Free> buffer;
  thread_local size_t size = 0;
  if (bytes > size) {
    buffer.reset(::operator new(bytes, kAlignment));
    size = bytes;
  }
  return buffer.get();
}

// One number of rows of one shape.
class RowsProduct {
 public:
  RowsProduct(const ProductShape& shape, const memory::desc& weights, int64_t rows, Variant variant)
      : description_(describe(shape, weights, rows, variant)), variant_(variant) {
    if (!row_invariant(description_)) {
      throw std::logic_error("oneDNN multiplies " + std::to_string(rows) + " rows of " +
                             std::to_string(shape.inputs) + " x " + std::to_string(shape.outputs) +
                             " by " + description_.impl_info_str());
    }
    primitive_ = dnnl::matmul(description_);
  }

  void multiply(const void* x, const memory& weights, void* y, const ProductExtra& extra) {
    std::unique_ptr<Call> call = take();
    call->x.set_data_handle(const_cast<void*>(x));
    call->y.set_data_handle(y);
    if (variant_.add) call->add.set_data_handle(const_cast<void*>(extra.add));
    if (variant_.bias) call->bias.set_data_handle(const_cast<void*>(extra.bias));
    call->scratch.set_data_handle(scratch(description_.scratchpad_desc().get_size()));
    call->arguments[0].memory = weights.get();
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(primitive_.get(), call->stream.get(), int(call->arguments.size()),
                               call->arguments.data()),
        "oneDNN could not multiply");
    give_back(std::move(call));
  }

 private:
  // Memory objects cost as much to make as a small product.
  struct Call {
    dnnl::stream stream;
    memory x, y, add, bias, scratch;
    std::vector<dnnl_exec_arg_t> arguments;
  };

  std::unique_ptr<Call> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Call> call = std::move(idle_.back());
        idle_.pop_back();
        return call;
      }
    }
    auto call = std::make_unique<Call>();
    call->stream = dnnl::stream(processor());
    call->arguments.push_back({DNNL_ARG_WEIGHTS, nullptr});
    const auto argument = [&](int name, memory& m, const memory::desc& description) {
      m = memory(description, processor(), nullptr);
      call->arguments.push_back({name, m.get()});
    };
    argument(DNNL_ARG_SRC, call->x, description_.src_desc());
    argument(DNNL_ARG_DST, call->y, description_.dst_desc());
    argument(DNNL_ARG_SCRATCHPAD, call->scratch, description_.scratchpad_desc());
    if (variant_.bias) {
      argument(DNNL_ARG_BIAS, call->bias, description_.query_md(dnnl::query::weights_md, 1));
    }
    if (variant_.add) {
      argument(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, call->add,
               memory::desc(description_.dst_desc().dims(), memory::data_type::f32,
                            memory::format_tag::ab));
    }
    return call;
  }

  void give_back(std::unique_ptr<Call> call) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(call));
  }

  dnnl::matmul::primitive_desc description_;
  dnnl::matmul primitive_;
  Variant variant_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Call>> idle_;
};

// All products with matrices of one shape, made when first asked for: at most kExactRows + 1
// numbers of rows in kVariants variants. A quarter of a megabyte each, so that matrices share them.
class ShapeProducts {
 public:
  ShapeProducts(const ProductShape& shape, const memory::desc& weights)
      : shape_(shape),
        weights_(weights),
        block_(shape.threads <= 4 ? 256 : 1024),
        exact_(weights.get_size() >= kLargeBytes) {}

  // How many of these rows the next product takes.
  int64_t take(int64_t rows) const {
    if (rows >= block_) return block_;
    if (rows >= kExactRows) return kExactRows;
    if (exact_ || rows < kRowStep) return rows;
    return rows / kRowStep * kRowStep;
  }

  RowsProduct& at(int64_t rows, Variant variant) {
    const size_t place = size_t(std::min(rows, kExactRows + 1)) - 1;
    std::atomic<RowsProduct*>& slot = slots_[variant.index()][place];
    if (RowsProduct* product = slot.load(std::memory_order_acquire)) return *product;
    const std::lock_guard lock(mutex_);
    if (RowsProduct* product = slot.load(std::memory_order_acquire)) return *product;
    owned_.push_back(std::make_unique<RowsProduct>(shape_, weights_, rows, variant));
    slot.store(owned_.back().get(), std::memory_order_release);
    return *owned_.back();
  }

 private:
  ProductShape shape_;
  memory::desc weights_;
  int64_t block_;
  bool exact_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<RowsProduct>> owned_;
  std::array<std::array<std::atomic<RowsProduct*>, kExactRows + 1>, kVariants> slots_{};
};

std::shared_ptr<ShapeProducts> products_of(const ProductShape& shape, const memory::desc& weights) {
  using Key = std::tuple<NumberType, int64_t, int64_t, int>;
  static std::mutex mutex;
  static auto& known = *new std::map<Key, std::weak_ptr<ShapeProducts>>;
  const std::lock_guard lock(mutex);
  auto& place = known[{shape.type, shape.inputs, shape.outputs, shape.threads}];
  std::shared_ptr<ShapeProducts> products = place.lock();
  if (!products) place = products = std::make_shared<ShapeProducts>(shape, weights);
  return products;
}

class OnednnWeights : public ProductWeights {
 public:
  OnednnWeights(const ProductShape& shape, const memory::desc& packed, std::string implementation,
                const void* matrix)
      : ProductWeights(shape),
        packed_(packed, processor()),
        products_(products_of(shape, packed)),
        implementation_(std::move(implementation)) {
    reorder(plain(const_cast<void*>(matrix)), packed_);
  }

  void multiply(const void* x, int64_t rows, void* y, bool wide_result,
                const ProductExtra& extra) const override {
    const WithThreads threads(shape().threads);
    const size_t entry = shape().type == NumberType::kBf16 ? 2 : 4;
    const size_t result = wide_result ? sizeof(float) : entry;
    const Variant variant{extra.add != nullptr, extra.bias != nullptr,
                          wide_result && shape().type == NumberType::kBf16};
    auto* from = static_cast<const std::byte*>(x);
    auto* to = static_cast<std::byte*>(y);
    auto* add = static_cast<const float*>(extra.add);
    while (rows > 0) {
      const int64_t now = products_->take(rows);
      products_->at(now, variant).multiply(from, packed_, to, {add, extra.bias});
      rows -= now;
      from += size_t(now * shape().inputs) * entry;
      to += size_t(now * shape().outputs) * result;
      if (add) add += now * shape().outputs;
    }
  }

  void unpack(void* matrix) const override { reorder(packed_, plain(matrix)); }
  size_t bytes() const override { return packed_.get_desc().get_size(); }
  std::string implementation() const override { return implementation_; }

 private:
  memory plain(void* matrix) const {
    const auto order =
        shape().order == WeightOrder::kOutputs ? memory::format_tag::ba : memory::format_tag::ab;
    return {
        {{shape().inputs, shape().outputs}, data_type(shape().type), order}, processor(), matrix};
  }

  void reorder(const memory& from, const memory& to) const {
    const WithThreads threads(shape().threads);
    dnnl::stream stream(processor());
    memory source = from, target = to;
    dnnl::reorder(source, target).execute(stream, source, target);
    stream.wait();
  }

  memory packed_;
  std::shared_ptr<ShapeProducts> products_;
  std::string implementation_;
};

}  // namespace

std::unique_ptr<ProductWeights> pack_for_onednn(const ProductShape& shape, const void* matrix) {
  if (shape.type == NumberType::kDouble) return nullptr;
  const WithThreads threads(shape.threads);
  try {
    const memory::desc any({shape.inputs, shape.outputs}, data_type(shape.type),
                           memory::format_tag::any);
    const auto product = describe(shape, any, kExactRows, {false, false, false});
    if (!row_invariant(product)) return nullptr;
    return std::make_unique<OnednnWeights>(shape, product.weights_desc(), product.impl_info_str(),
                                           matrix);
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_unimplemented) return nullptr;
    throw;
  }
}

}  // namespace svfleet
