// Products of each row with a small matrix of its own entry, such as a LoRA's factors: rows of one
// pass name different entries. In the wide type throughout, and a row's bits are its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace svfleet {

// A matrix M [outputs, inputs] in each entry: what begins at `offset` of d [entries, length]. Of a
// d [length] all rows are of that one entry.
struct EntryMatrix {
  at::Tensor d;         // wide
  at::Tensor entry_of;  // [rows] int32, where d has several
  int64_t offset = 0, outputs = 0, inputs = 0;
};

// x M^T: x [rows, inputs] of any type -> [rows, outputs], wide.
at::Tensor entry_times(const at::Tensor& x, const EntryMatrix& m);
// x M: x [rows, outputs] of any type -> [rows, inputs], wide.
at::Tensor entry_back(const at::Tensor& x, const EntryMatrix& m);

// sums [p, q] (float64, on the host) += sum of a_i b_j over rows [from, to), in their order; a
// [rows, p] and b [rows, q], wide.
void add_outer_products(const at::Tensor& a, const at::Tensor& b, int64_t from, int64_t to,
                        double* sums);

}  // namespace svfleet
