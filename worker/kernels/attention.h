// Attention of many rows to keys and values in pages, and its gradient.
#pragma once

#include <cstdint>
#include <span>

#include "worker/kernels/attention_row.h"
#include "worker/kernels/pages.h"

namespace svfleet {

// For each row and head, with the keys k_j and values v_j of the head's kv head:
//   s_j = scale * q.k_j,  p_j = exp(s_j) / sum_i exp(s_i),  out = sum_j p_j v_j,
//   log_sum = log sum_j exp(s_j),
// over all keys of the row, or the last `window` of them. With a soft cap c, c tanh(s_j / c) stands
// for s_j.
// p stays Wide; out is rounded once. A row's bits are those of its q, its keys and its values in
// their order, whatever else is in the call, however many threads there are and which instructions
// they use, and wherever the pages lie. Consecutive rows whose lists name the same page at the same
// place share its loads. What is not finite in q, or in a key or value attended to, makes the row's
// head NaN (but a soft cap makes an infinite score finite); slots that are not attended to may hold
// anything. keys = 0: out = 0, log_sum = -inf. T: bf16, float, double (double is plain and slow,
// for tests).
template <class T>
void attend(const AttentionShape& shape, std::span<const AttentionRow<T>> rows, int threads);

// The gradient of attend, with p_j = exp(s_j - log_sum) computed again:
//   dP_j = d_out.v_j,  D = d_out.out,  dS_j = p_j (dP_j - D),
//   d_q = scale sum_j dS_j k_j,  dk_j += scale dS_j q,  dv_j += p_j d_out;
// dS_j times 1 - tanh^2 of a soft cap.
// Rows, and heads within a row, add to an element of d_pages in their order, so that its bits do
// not depend on the threads either. Two rows that share a page must have it at the same place of
// their lists, with the same d_page. d_pages must be initialized in all slots: those not attended
// to get zeros added, or NaN where the row is not finite. d_q is written in full.
template <class T>
void attend_gradient(const AttentionShape& shape, std::span<const AttentionGradientRow<T>> rows,
                     int threads);

}  // namespace svfleet
