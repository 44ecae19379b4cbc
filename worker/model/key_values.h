// Keys and values of all layers in pages of kPageTokens tokens with reference counts: a prompt is
// held once for all of its samples.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/kernels/attention.h"
#include "worker/model/weights.h"

namespace svfleet {

struct Pass;
using Pages = std::vector<int>;  // token j of a sequence is slot j % kPageTokens of page j / it
struct PageCopy {
  int from, to, slots;
};

// Keys and values of one token, in all layers.
int64_t bytes_a_token(const Weights& weights);

// Of one thread.
class PagePool {
 public:
  explicit PagePool(const Weights& weights);

  int take();             // a page that nobody holds
  int64_t bytes() const;  // of all pages, held or not
  void hold(const Pages& pages);
  void release(const Pages& pages);
  // In all layers, after the passes that made them.
  void copy(const PageCopy& copy);

  // One layer of a pass: the rows' own keys and values [rows, kv_heads * head_dim] into their
  // places, and the pass's copies.
  void store(int layer, const Pass& pass, const at::Tensor& k, const at::Tensor& v);
  // What each row's q [rows, heads * head_dim] sees of its sequence within the layer's window,
  // likewise; `log_sum`, where
  // given: what the gradient needs besides [rows, heads], wide.
  at::Tensor attend(int layer, const Pass& pass, const at::Tensor& q,
                    at::Tensor* log_sum = nullptr) const;
  struct Gradient {
    at::Tensor d_q, d_k, d_v;  // wide, as q, k and v
  };
  // The rows add in their order, the copies in the opposite order of theirs.
  Gradient attend_gradient(int layer, const Pass& pass, const at::Tensor& q, const at::Tensor& out,
                           const at::Tensor& log_sum, const at::Tensor& d_out) const;

 private:
  void grow();
  char* page(int layer, int page) const;
  template <class T>
  std::vector<const T*> addresses(int layer, const Pass& pass, std::vector<int64_t>* starts) const;

  // On a GPU: rows of the pool's tensors.
  at::Tensor slots(const Pages& pages, int64_t count) const;
  at::Tensor attend_on_gpu(int layer, const Pass& pass, const at::Tensor& q,
                           at::Tensor* log_sum) const;
  Gradient gradient_on_gpu(int layer, const Pass& pass, const at::Tensor& q, const at::Tensor& out,
                           const at::Tensor& log_sum, const at::Tensor& d_out) const;

  const AttentionShape& shape_of(int layer) const;

  const AttentionShape shape_;  // without a window
  std::vector<AttentionShape> by_layer_;
  const int layers_;
  const at::ScalarType type_;
  const at::Device device_;
  std::vector<int> holders_, free_;  // by page
  std::vector<at::Tensor> slabs_;    // CPU: kSlabPages pages of all layers
  at::Tensor keys_, values_;         // GPU: [layers, slots, kv_heads, head_dim]
};

// The pages of a sequence that goes on from the first `length` tokens of another: whole ones are
// shared, and a last one that is not full is copied.
Pages continued(const Pages& from, int64_t length, PagePool& pool, std::vector<PageCopy>* copies);
// Enough pages for `length` tokens.
void extend(Pages& pages, int64_t length, PagePool& pool);

}  // namespace svfleet
