#include "worker/model/key_values.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/error.h"
#ifdef SVFLEET_HAVE_CUDA
#include "worker/model/gpu_kernels.h"
#endif
#include "worker/model/gpu_operations.h"
#include "worker/model/pass.h"
#include "worker/model/typed.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

constexpr int kSlabPages = 16;

AttentionShape attention_shape(const Architecture& arch) {
  return {int(arch.heads), int(arch.kv_heads), int(arch.head_dim), arch.attention_scale,
          arch.attention_cap};
}

// Neighbouring rows of one sequence.
struct Run {
  int64_t from, count;
};
std::vector<Run> runs_of(const Pass& pass) {
  std::vector<Run> runs;
  for (int64_t row = 0; row < pass.rows(); ++row)
    if (row && pass.pages[size_t(row)] == pass.pages[size_t(row) - 1])
      ++runs.back().count;
    else
      runs.push_back({row, 1});
  return runs;
}

#ifdef SVFLEET_HAVE_CUDA
const GpuPass& sent(const Pass& pass, at::Device device) {
  if (!pass.on_gpu) pass.on_gpu = std::make_shared<const GpuPass>(pass, device);
  return *pass.on_gpu;
}
#endif

}  // namespace

int64_t bytes_a_token(const Weights& weights) {
  const Architecture& arch = weights.architecture();
  return 2 * arch.layers * arch.kv_heads * arch.head_dim *
         int64_t(c10::elementSize(weights.type()));
}

PagePool::PagePool(const Weights& weights)
    : shape_(attention_shape(weights.architecture())),
      layers_(weights.architecture().layers),
      type_(weights.type()),
      device_(weights.device()) {
  for (const LayerTraits& layer : weights.architecture().layer_traits) {
    by_layer_.push_back(shape_);
    by_layer_.back().window = layer.window;
  }
}

const AttentionShape& PagePool::shape_of(int layer) const {
  return by_layer_[size_t(layer)];
}

void PagePool::grow() {
  const int first = int(holders_.size());
  const int more = device_.is_cuda() ? std::max(first, kSlabPages) : kSlabPages;
  holders_.resize(size_t(first + more), 0);
  for (int page = first + more; page-- > first;) free_.push_back(page);
  if (!device_.is_cuda()) {
    slabs_.push_back(at::empty({kSlabPages, layers_, page_elements(shape_)}, type_));
    return;
  }
  const int64_t old = int64_t(first) * kPageTokens, added = int64_t(more) * kPageTokens;
  for (at::Tensor* all : {&keys_, &values_}) {
    const at::Tensor larger = at::empty({layers_, old + added, shape_.kv_heads, shape_.head_dim},
                                        at::TensorOptions(type_).device(device_));
    if (all->defined()) larger.narrow(1, 0, old).copy_(*all);
    larger.narrow(1, old, added).zero_();
    *all = larger;
  }
}

int PagePool::take() {
  if (free_.empty()) grow();
  const int page = free_.back();
  free_.pop_back();
  holders_[size_t(page)] = 1;
  return page;
}

int64_t PagePool::bytes() const {
  return int64_t(holders_.size()) * layers_ * page_elements(shape_) *
         int64_t(c10::elementSize(type_));
}

void PagePool::hold(const Pages& pages) {
  for (const int page : pages) ++holders_[size_t(page)];
}

void PagePool::release(const Pages& pages) {
  for (const int page : pages) {
    SVFLEET_CHECK(holders_[size_t(page)] > 0, "page ", page, " is held by nobody");
    if (--holders_[size_t(page)] == 0) free_.push_back(page);
  }
}

char* PagePool::page(int layer, int page) const {
  const at::Tensor& slab = slabs_[size_t(page / kSlabPages)];
  return static_cast<char*>(slab.data_ptr()) + (page % kSlabPages * int64_t(layers_) + layer) *
                                                   page_elements(shape_) *
                                                   int64_t(slab.element_size());
}

void PagePool::copy(const PageCopy& copy) {
  if (device_.is_cuda()) {
    for (const at::Tensor& all : {keys_, values_})
      all.narrow(1, copy.to * kPageTokens, copy.slots)
          .copy_(all.narrow(1, copy.from * kPageTokens, copy.slots));
    return;
  }
  with_type(type_, [&](auto zero) {
    using T = decltype(zero);
    for (int layer = 0; layer < layers_; ++layer)
      copy_slots<T>(shape_, reinterpret_cast<const T*>(page(layer, copy.from)),
                    reinterpret_cast<T*>(page(layer, copy.to)), copy.slots);
  });
}

void PagePool::store(int layer, const Pass& pass, const at::Tensor& k, const at::Tensor& v) {
#ifdef SVFLEET_HAVE_CUDA
  if (gpu::has_kernels(keys_)) {
    gpu::kernels::store(shape_, sent(pass, device_), k, v, keys_[layer], values_[layer]);
    return;
  }
#endif
  if (device_.is_cuda()) {
    std::vector<int64_t> places;
    for (int64_t row = 0; row < pass.rows(); ++row) {
      const int64_t position = pass.positions[size_t(row)];
      places.push_back((*pass.pages[size_t(row)])[size_t(position / kPageTokens)] * kPageTokens +
                       position % kPageTokens);
    }
    const at::Tensor index = index_tensor(places, device_);
    keys_[layer].index_copy_(0, index, k.view({pass.rows(), shape_.kv_heads, shape_.head_dim}));
    values_[layer].index_copy_(0, index, v.view({pass.rows(), shape_.kv_heads, shape_.head_dim}));
    for (const PageCopy& copy : pass.copies)
      for (const at::Tensor& all : {keys_[layer], values_[layer]})
        all.narrow(0, copy.to * kPageTokens, copy.slots)
            .copy_(all.narrow(0, copy.from * kPageTokens, copy.slots));
    return;
  }
  with_type(type_, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = int64_t(shape_.kv_heads) * shape_.head_dim;
    for (int64_t row = 0; row < pass.rows(); ++row) {
      const int64_t position = pass.positions[size_t(row)];
      const int own = (*pass.pages[size_t(row)])[size_t(position / kPageTokens)];
      store_key_value<T>(shape_, reinterpret_cast<T*>(page(layer, own)),
                         int(position % kPageTokens), data_of<T>(k) + row * width,
                         data_of<T>(v) + row * width);
    }
    for (const PageCopy& copy : pass.copies)
      copy_slots<T>(shape_, reinterpret_cast<const T*>(page(layer, copy.from)),
                    reinterpret_cast<T*>(page(layer, copy.to)), copy.slots);
  });
}

// The addresses of the pages of all rows, of each run of one sequence once, and where each row's
// begin.
template <class T>
std::vector<const T*> PagePool::addresses(int layer, const Pass& pass,
                                          std::vector<int64_t>* starts) const {
  std::vector<const T*> all;
  for (int64_t row = 0; row < pass.rows(); ++row) {
    if (row && pass.pages[size_t(row)] == pass.pages[size_t(row) - 1]) {
      starts->push_back(starts->back());
      continue;
    }
    starts->push_back(int64_t(all.size()));
    for (const int p : *pass.pages[size_t(row)])
      all.push_back(reinterpret_cast<const T*>(page(layer, p)));
  }
  return all;
}

at::Tensor PagePool::attend(int layer, const Pass& pass, const at::Tensor& q,
                            at::Tensor* log_sum) const {
#ifdef SVFLEET_HAVE_CUDA
  if (gpu::has_kernels(q))
    return gpu::kernels::attend(shape_, sent(pass, device_), q, keys_[layer], values_[layer],
                                log_sum);
#endif
  if (device_.is_cuda()) return attend_on_gpu(layer, pass, q, log_sum);
  at::Tensor out = at::empty_like(q);
  if (log_sum) *log_sum = at::empty({pass.rows(), shape_.heads}, wide_of(q));
  with_type(type_, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = int64_t(shape_.heads) * shape_.head_dim;
    std::vector<int64_t> starts;
    const std::vector<const T*> pages = addresses<T>(layer, pass, &starts);
    std::vector<AttentionRow<T>> rows;
    for (int64_t row = 0; row < pass.rows(); ++row)
      rows.push_back({data_of<T>(q) + row * width, pages.data() + starts[size_t(row)],
                      pass.positions[size_t(row)] + 1, data_of<T>(out) + row * width,
                      log_sum ? data_of<Wide<T>>(*log_sum) + row * shape_.heads : nullptr});
    svfleet::attend<T>(shape_of(layer), rows, compute_threads());
  });
  return out;
}

PagePool::Gradient PagePool::attend_gradient(int layer, const Pass& pass, const at::Tensor& q,
                                             const at::Tensor& out, const at::Tensor& log_sum,
                                             const at::Tensor& d_out) const {
#ifdef SVFLEET_HAVE_CUDA
  if (gpu::has_kernels(q)) {
    const auto d = gpu::kernels::attend_gradient(shape_, sent(pass, device_), q, keys_[layer],
                                                 values_[layer], out, log_sum, d_out);
    return {d.d_q, d.d_k, d.d_v};
  }
#endif
  if (device_.is_cuda()) return gradient_on_gpu(layer, pass, q, out, log_sum, d_out);
  const at::ScalarType wide = wide_of(q);
  const int64_t kv_width = int64_t(shape_.kv_heads) * shape_.head_dim;
  Gradient result{at::empty(q.sizes(), wide), at::empty({pass.rows(), kv_width}, wide),
                  at::empty({pass.rows(), kv_width}, wide)};
  // Pages of gradients beside those that the pass reads.
  std::vector<int> places(holders_.size(), -1);
  int count = 0;
  for (const Pages* pages : pass.pages)
    for (const int p : *pages)
      if (places[size_t(p)] < 0) places[size_t(p)] = count++;
  const int64_t size = page_elements(shape_);
  const at::Tensor gradients = at::zeros({count, size}, wide);
  with_type(type_, [&](auto zero) {
    using T = decltype(zero);
    using W = Wide<T>;
    const int64_t width = int64_t(shape_.heads) * shape_.head_dim;
    W* const all = data_of<W>(gradients);
    std::vector<int64_t> starts;
    const std::vector<const T*> pages = addresses<T>(layer, pass, &starts);
    std::vector<W*> d_pages;
    for (int64_t row = 0; row < pass.rows(); ++row)
      if (!row || pass.pages[size_t(row)] != pass.pages[size_t(row) - 1])
        for (const int p : *pass.pages[size_t(row)])
          d_pages.push_back(all + places[size_t(p)] * size);
    std::vector<AttentionGradientRow<T>> rows;
    for (int64_t row = 0; row < pass.rows(); ++row)
      rows.push_back({data_of<T>(q) + row * width, data_of<T>(out) + row * width,
                      data_of<W>(log_sum) + row * shape_.heads, data_of<T>(d_out) + row * width,
                      pages.data() + starts[size_t(row)], d_pages.data() + starts[size_t(row)],
                      pass.positions[size_t(row)] + 1, data_of<W>(result.d_q) + row * width});
    svfleet::attend_gradient<T>(shape_of(layer), rows, compute_threads());
    for (auto copy = pass.copies.rbegin(); copy != pass.copies.rend(); ++copy)
      add_slots<T>(shape_, all + places[size_t(copy->to)] * size,
                   all + places[size_t(copy->from)] * size, copy->slots);
    for (int64_t row = 0; row < pass.rows(); ++row) {
      const int64_t position = pass.positions[size_t(row)];
      const int own = (*pass.pages[size_t(row)])[size_t(position / kPageTokens)];
      load_gradient<T>(shape_, all + places[size_t(own)] * size, int(position % kPageTokens),
                       data_of<W>(result.d_k) + row * kv_width,
                       data_of<W>(result.d_v) + row * kv_width);
    }
  });
  return result;
}

at::Tensor PagePool::slots(const Pages& pages, int64_t count) const {
  std::vector<int64_t> places;
  for (int64_t j = 0; j < count; ++j)
    places.push_back(pages[size_t(j / kPageTokens)] * int64_t(kPageTokens) + j % kPageTokens);
  return index_tensor(places, device_);
}

at::Tensor PagePool::attend_on_gpu(int layer, const Pass& pass, const at::Tensor& q,
                                   at::Tensor* log_sum) const {
  const at::Tensor queries = q.view({pass.rows(), shape_.heads, shape_.head_dim});
  const at::Tensor keys = keys_[layer], values = values_[layer];
  const std::vector<Run> runs = runs_of(pass);
  if (!log_sum && int64_t(runs.size()) == pass.rows()) {  // a decoding step
    int64_t most = 0;
    std::vector<int64_t> counts, places;
    for (const int64_t position : pass.positions) counts.push_back(position + 1);
    for (const int64_t count : counts) most = std::max(most, count);
    for (const Pages* pages : pass.pages)
      for (int64_t j = 0; j < most; ++j) {
        const size_t p = std::min(size_t(j / kPageTokens), pages->size() - 1);
        places.push_back((*pages)[p] * int64_t(kPageTokens) + j % kPageTokens);
      }
    const at::Tensor index = index_tensor(places, device_);
    const std::vector<int64_t> by_row = {pass.rows(), most, shape_.kv_heads, shape_.head_dim};
    return gpu::attend_each(queries, keys.index_select(0, index).view(by_row),
                            values.index_select(0, index).view(by_row),
                            index_tensor(counts, device_), shape_.scale)
        .view_as(q);
  }
  std::vector<at::Tensor> out, sums;
  for (const Run& run : runs) {
    const int64_t first = pass.positions[size_t(run.from)] + 1;
    const at::Tensor index = slots(*pass.pages[size_t(run.from)], first + run.count - 1);
    const gpu::Attended seen =
        gpu::attend(queries.narrow(0, run.from, run.count), keys.index_select(0, index),
                    values.index_select(0, index), first, shape_.scale);
    out.push_back(seen.out);
    sums.push_back(seen.log_sum);
  }
  if (log_sum) *log_sum = at::cat(sums);
  return at::cat(out).view_as(q);
}

PagePool::Gradient PagePool::gradient_on_gpu(int layer, const Pass& pass, const at::Tensor& q,
                                             const at::Tensor& out, const at::Tensor& log_sum,
                                             const at::Tensor& d_out) const {
  const auto by_head = [&](const at::Tensor& t) {
    return t.view({pass.rows(), shape_.heads, shape_.head_dim});
  };
  const at::Tensor keys = keys_[layer], values = values_[layer];
  at::Tensor d_keys = at::zeros(keys.sizes(), keys.options().dtype(wide_of(q)));
  at::Tensor d_values = at::zeros_like(d_keys);
  std::vector<at::Tensor> d_q;
  for (const Run& run : runs_of(pass)) {
    const int64_t first = pass.positions[size_t(run.from)] + 1;
    const auto own = [&](const at::Tensor& t) { return t.narrow(0, run.from, run.count); };
    const at::Tensor index = slots(*pass.pages[size_t(run.from)], first + run.count - 1);
    const gpu::AttendedGradient d = gpu::attend_gradient(
        own(by_head(q)), keys.index_select(0, index), values.index_select(0, index),
        {own(by_head(out)), own(log_sum)}, own(by_head(d_out)), first, shape_.scale);
    d_q.push_back(d.d_q);
    // No index twice: one addition a place, in the order of the runs.
    d_keys.index_copy_(0, index, d_keys.index_select(0, index) + d.d_k);
    d_values.index_copy_(0, index, d_values.index_select(0, index) + d.d_v);
  }
  for (auto copy = pass.copies.rbegin(); copy != pass.copies.rend(); ++copy)
    for (const at::Tensor& all : {d_keys, d_values})
      all.narrow(0, copy->from * kPageTokens, copy->slots)
          .add_(all.narrow(0, copy->to * kPageTokens, copy->slots));
  std::vector<int64_t> places;
  for (int64_t row = 0; row < pass.rows(); ++row) {
    const int64_t position = pass.positions[size_t(row)];
    places.push_back((*pass.pages[size_t(row)])[size_t(position / kPageTokens)] *
                         int64_t(kPageTokens) +
                     position % kPageTokens);
  }
  const at::Tensor index = index_tensor(places, device_);
  return {at::cat(d_q).view_as(q), d_keys.index_select(0, index).flatten(1),
          d_values.index_select(0, index).flatten(1)};
}

Pages continued(const Pages& from, int64_t length, PagePool& pool, std::vector<PageCopy>* copies) {
  const int64_t whole = length / kPageTokens;
  Pages pages(from.begin(), from.begin() + whole);
  pool.hold(pages);
  if (const int slots = int(length % kPageTokens)) {
    pages.push_back(pool.take());
    copies->push_back({from[size_t(whole)], pages.back(), slots});
  }
  return pages;
}

void extend(Pages& pages, int64_t length, PagePool& pool) {
  while (int64_t(pages.size()) * kPageTokens < length) pages.push_back(pool.take());
}

}  // namespace svfleet
