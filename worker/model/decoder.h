// A decoder of any family over frozen weights, with an adapter: the forward pass, and the gradient
// of z through it, by hand. Const in all they read, and re-entrant. It knows no family, only the
// flags of Architecture.
//
// Prompts, trees and decoding steps go through one function, in which a row's bits depend on its
// own sequence alone: log pi of a token is the same number when it is drawn and when it is trained.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/model/adapter.h"
#include "worker/model/pass.h"
#include "worker/model/weights.h"

namespace svfleet {

// What the gradient needs of a forward pass, by layer. What is quickly made again of it, the norms'
// outputs and act(gate) * up, is not kept.
struct Tape {
  // What a norm needs: its input, and 1 / its root mean square by row.
  struct Norm {
    at::Tensor x, inverse;
  };
  struct Layer {
    Norm attention, mlp;  // x: the residual before each, in families without norm, too
    Norm q_norm, k_norm;  // undefined where the family has none, as the next two
    Norm attention_out, mlp_out;
    at::Tensor q, attended, log_sum;  // keys and values stay in the pool
    at::Tensor gate, up;
  };
  std::vector<Layer> layers;
  at::Tensor h, inverse;  // before the last norm
  int from = 0;           // layers below it change nothing: only these are kept
  // Of each layer only h is kept, and the gradient computes it once more: the same bits, less
  // memory, more time. (Gradient checkpointing, Chen et al. 2016.)
  bool again = false;
};

// Hidden states after the last norm [rows, hidden]; keys and values go into the pool. With `tape`,
// whose `from` is given, what the gradient needs is kept. Error(kExitUser) on a GPU for a sequence
// that needs a sliding window.
at::Tensor forward(const Weights& weights, const Adapter& adapter, const Pass& pass, PagePool& pool,
                   Tape* tape = nullptr);

// Neighbouring rows whose gradients add up to one dz.
struct RowRange {
  int64_t from, to;
};

// dL/dz [ranges][all r] of what has the gradient d_hidden [rows, hidden], wide, at forward's
// result; rows of different ranges must share no page. Sums over rows are in float64, in their
// order. The pool still holds what that pass left, and does so at the end; the tape is used up.
std::vector<std::vector<double>> backward(const Weights& weights, const Adapter& adapter,
                                          const Pass& pass, PagePool& pool, Tape tape,
                                          const at::Tensor& d_hidden,
                                          const std::vector<RowRange>& ranges);

}  // namespace svfleet
