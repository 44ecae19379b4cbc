#include "worker/kernels/onednn_rows.h"

#include <omp.h>

#include <algorithm>
#include <map>
#include <new>
#include <stdexcept>
#include <utility>

namespace svfleet {
namespace {

using dnnl::memory;

memory::data_type data_type(NumberType type) {
  return type == NumberType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory::desc row_major(int64_t rows, int64_t columns, memory::data_type type) {
  return {{rows, columns}, type, memory::format_tag::ab};
}

dnnl::matmul::primitive_desc describe(const MatrixShape& shape, const memory::desc& weights,
                                      int64_t rows, ProductVariant variant) {
  const auto type = data_type(shape.type);
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
  return {operation, attributes, onednn_engine()};
}

bool row_invariant(const dnnl::matmul::primitive_desc& product) {
  return std::string(product.impl_info_str()).starts_with("brg:avx512_core");
}

// Working memory of one thread's product, kept for its next one.
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

}  // namespace

const dnnl::engine& onednn_engine() {
  static const dnnl::engine* engine = [] {
    // With matrix tiles (AMX), some numbers of rows could go through other instructions than
    // others. This also keeps the environment from choosing.
    dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16);
    // The products kept here are all there are; oneDNN's own cache would keep dead ones, too.
    dnnl::set_primitive_cache_capacity(0);
    return new dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return *engine;
}

PackedLayout packed_layout(const MatrixShape& shape) {
  if (shape.type == NumberType::kDouble) return {};
  const OnednnThreads threads(shape.threads);
  try {
    const memory::desc any({shape.inputs, shape.outputs}, data_type(shape.type),
                           memory::format_tag::any);
    const auto product = describe(shape, any, kMostRows, {false, false, false});
    if (!row_invariant(product)) return {};
    return {product.weights_desc(), product.impl_info_str()};
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_unimplemented) return {};
    throw;
  }
}

OnednnThreads::OnednnThreads(int threads)
    : before_(omp_get_max_threads()), dynamic_(omp_get_dynamic()) {
  if (threads != before_) omp_set_num_threads(threads);
  if (dynamic_) omp_set_dynamic(0);
}

OnednnThreads::~OnednnThreads() {
  omp_set_num_threads(before_);
  if (dynamic_) omp_set_dynamic(dynamic_);
}

int OnednnThreads::most() {
  return omp_get_thread_limit();
}

RowsProduct::RowsProduct(const MatrixShape& shape, const memory::desc& weights, int64_t rows,
                         ProductVariant variant)
    : add_(row_major(rows, shape.outputs, memory::data_type::f32)), variant_(variant) {
  description_ = describe(shape, weights, rows, variant);
  if (!row_invariant(description_)) {
    throw std::logic_error("oneDNN multiplies " + std::to_string(rows) + " rows of " +
                           std::to_string(shape.inputs) + " x " + std::to_string(shape.outputs) +
                           " by " + description_.impl_info_str());
  }
  primitive_ = dnnl::matmul(description_);
}

void RowsProduct::multiply(const void* x, const memory& weights, void* y,
                           const ProductExtra& extra) {
  std::unique_ptr<Call> call = take();
  call->x.set_data_handle(const_cast<void*>(x));
  call->y.set_data_handle(y);
  if (variant_.add) call->add.set_data_handle(const_cast<void*>(extra.add));
  if (variant_.bias) call->bias.set_data_handle(const_cast<void*>(extra.bias));
  call->scratch.set_data_handle(scratch(description_.scratchpad_desc().get_size()));
  call->arguments[0].memory = weights.get();
  // Not primitive_.execute, which makes two containers of the arguments.
  dnnl::error::wrap_c_api(
      dnnl_primitive_execute(primitive_.get(), call->stream.get(), int(call->arguments.size()),
                             call->arguments.data()),
      "oneDNN could not multiply");
  give_back(std::move(call));
}

std::unique_ptr<RowsProduct::Call> RowsProduct::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Call> call = std::move(idle_.back());
      idle_.pop_back();
      return call;
    }
  }
  auto call = std::make_unique<Call>();
  call->stream = dnnl::stream(onednn_engine());
  call->arguments.push_back({DNNL_ARG_WEIGHTS, nullptr});
  const auto argument = [&](int name, memory& m, const memory::desc& description) {
    m = memory(description, onednn_engine(), nullptr);
    call->arguments.push_back({name, m.get()});
  };
  argument(DNNL_ARG_SRC, call->x, description_.src_desc());
  argument(DNNL_ARG_DST, call->y, description_.dst_desc());
  argument(DNNL_ARG_SCRATCHPAD, call->scratch, description_.scratchpad_desc());
  if (variant_.bias)
    argument(DNNL_ARG_BIAS, call->bias, description_.query_md(dnnl::query::weights_md, 1));
  if (variant_.add) argument(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, call->add, add_);
  return call;
}

void RowsProduct::give_back(std::unique_ptr<Call> call) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(call));
}

RowsProduct& MatrixProducts::at(int64_t rows, ProductVariant variant) {
  const size_t place = size_t(std::min(rows, kMostRows + 1)) - 1;
  std::atomic<RowsProduct*>& made = made_[variant.index()][place];
  if (RowsProduct* product = made.load(std::memory_order_acquire)) return *product;
  const std::lock_guard lock(mutex_);
  if (RowsProduct* product = made.load(std::memory_order_acquire)) return *product;
  owned_.push_back(std::make_unique<RowsProduct>(shape_, weights_, rows, variant));
  made.store(owned_.back().get(), std::memory_order_release);
  return *owned_.back();
}

std::shared_ptr<MatrixProducts> MatrixProducts::of(const MatrixShape& shape,
                                                   const memory::desc& weights) {
  static std::mutex mutex;
  static auto& known = *new std::map<MatrixShape, std::weak_ptr<MatrixProducts>>;
  const std::lock_guard lock(mutex);
  std::weak_ptr<MatrixProducts>& place = known[shape];
  std::shared_ptr<MatrixProducts> products = place.lock();
  if (!products) place = products = std::make_shared<MatrixProducts>(shape, weights);
  return products;
}

}  // namespace svfleet
