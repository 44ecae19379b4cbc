#include "worker/model/gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/model/decoder.h"
#include "worker/model/gradient_memory.h"
#include "worker/model/operations.h"

namespace svfleet {
namespace {

// Parts are computed together as long as they have no more tokens: more rows multiply faster, up to
// here, and take more memory.
int64_t most_together(at::Device device) {
  return device.is_cuda() ? 8192 : 128;
}

// Again::kAuto: bytes that a thread may keep of layers.
int64_t most_kept(at::Device device) {
  return int64_t{device.is_cuda() ? 24 : 1} << 30;
}

// Some replies of a group, which are computed as one tree.
struct Part {
  size_t group, from, to;
  int64_t tokens;
};

std::vector<Part> cut(const std::vector<ReplyGroup>& groups, int64_t most) {
  std::vector<Part> parts;
  for (size_t g = 0; g < groups.size(); ++g) {
    const int64_t prompt = int64_t(groups[g].prompt->size());
    Part part{g, 0, 0, prompt};
    for (const ReplyGroup::Reply& reply : groups[g].replies) {
      const int64_t tokens = int64_t(reply.tokens->size());
      if (most > 0 && part.to > part.from && part.tokens + tokens > most) {
        parts.push_back(part);
        part = {g, part.to, part.to, prompt};
      }
      part.tokens += tokens;
      ++part.to;
    }
    parts.push_back(part);
  }
  return parts;
}

// Parts as one tree each: prompts, then replies. A reply's last token predicts nothing and is left
// out; its first is predicted by the prompt's last.
struct Trees {
  std::vector<Segment> segments;
  std::vector<std::pair<int, int64_t>> predicting;  // (segment, place) of each trained token
  std::vector<int> first_segments;                  // of each part, and the end
  TrainedTokens tokens;
};

// `longest`: of prompt and reply, 0 for no limit; beyond it positions have no angles of their own.
Trees plant(const std::vector<ReplyGroup>& groups, const std::vector<Part>& parts,
            int64_t longest) {
  Trees trees;
  for (const Part& part : parts) {
    const ReplyGroup& group = groups[part.group];
    const int prompt = int(trees.segments.size());
    trees.first_segments.push_back(prompt);
    trees.segments.push_back({*group.prompt, -1, group.entry});
    const int64_t last = int64_t(group.prompt->size()) - 1;
    for (size_t r = part.from; r < part.to; ++r) {
      const std::vector<int>& tokens = *group.replies[r].tokens;
      SVFLEET_CHECK(longest == 0 || last + int64_t(tokens.size()) <= longest, "a prompt of ",
                    last + 1, " tokens and a reply of ", tokens.size(), ", of at most ", longest);
      const int own = int(trees.segments.size());
      for (size_t i = 0; i < tokens.size(); ++i) {
        trees.predicting.emplace_back(i ? own : prompt, i ? int64_t(i) - 1 : last);
        trees.tokens.labels.push_back(tokens[i]);
        trees.tokens.weights.push_back(group.replies[r].weight);
        trees.tokens.kl_weights.push_back(group.replies[r].kl_weight);
      }
      if (tokens.size() > 1)
        trees.segments.push_back({{tokens.begin(), tokens.end() - 1}, prompt, group.entry});
    }
  }
  trees.first_segments.push_back(int(trees.segments.size()));
  return trees;
}

std::vector<int64_t> rows_of(const Trees& trees, const TreePass& pass) {
  std::vector<int64_t> rows;
  for (const auto& [segment, place] : trees.predicting)
    rows.push_back(pass.first_row(segment) + place);
  return rows;
}

// Flat per-token values of `parts` to their replies.
void put(const std::vector<ReplyGroup>& groups, const std::vector<Part>& parts,
         const at::Tensor& flat, ReplyLogProbs* out) {
  const at::Tensor values = flat.to(at::kFloat).cpu().contiguous();
  const float* next = values.data_ptr<float>();
  for (const Part& part : parts)
    for (size_t r = part.from; r < part.to; ++r) {
      const size_t count = groups[part.group].replies[r].tokens->size();
      (*out)[part.group][r].assign(next, next + count);
      next += count;
    }
}

ReplyLogProbs room_for(const std::vector<ReplyGroup>& groups) {
  ReplyLogProbs out;
  for (const ReplyGroup& group : groups) out.emplace_back(group.replies.size());
  return out;
}

// Calls work(parts) for as many as are computed together.
template <class Work>
void in_batches(const std::vector<Part>& parts, at::Device device, Work work) {
  const int64_t most = most_together(device);
  for (size_t from = 0; from < parts.size();) {
    size_t to = from;
    int64_t tokens = 0;
    while (to < parts.size() && (to == from || tokens + parts[to].tokens <= most))
      tokens += parts[to++].tokens;
    work(std::vector<Part>(parts.begin() + int64_t(from), parts.begin() + int64_t(to)));
    from = to;
  }
}

at::Tensor hidden_at(const Weights& weights, const Adapter& adapter, const TreePass& tree,
                     const at::Tensor& rows, PagePool& pool, Tape* tape = nullptr) {
  return forward(weights, adapter, tree.pass(), pool, tape).index_select(0, rows);
}

// The lowest layer that holds a target.
int lowest_layer(const Basis& basis) {
  int lowest = basis.targets().front().layer;
  for (const Target& target : basis.targets()) lowest = std::min(lowest, target.layer);
  return lowest;
}

GradientSize size_of(const Basis& basis, const Weights& weights, const PagePool& pool,
                     const Trees& trees, int64_t rows, bool of_base) {
  GradientSize size;
  size.rows = rows;
  size.trained = int64_t(trees.predicting.size());
  size.logits_at_once = Head::rows_at_once(weights.device());
  size.layers = weights.architecture().layers - lowest_layer(basis);
  for (const Target& target : basis.targets())
    size.longest_basis = std::max(size.longest_basis, target.length());
  size.page_bytes = pool.bytes();
  size.of_base = of_base;
  return size;
}

// d_hidden of the trained tokens to the rows that predict them: a prompt's last row predicts one
// of each reply. They add in their order.
at::Tensor to_rows(const at::Tensor& d, const std::vector<int64_t>& rows, int64_t count) {
  at::Tensor all = at::zeros({count, d.size(1)}, d.options());
  if (!d.is_cuda()) {
    for (size_t i = 0; i < rows.size(); ++i) all[rows[i]].add_(d[int64_t(i)]);
    return all;
  }
  return all.index_put_({index_tensor(rows, d.device())}, d, /*accumulate=*/true);  // sorts
}

}  // namespace

GradientResult z_gradient(const Weights& weights, const Adapter& adapter,
                          const std::vector<ReplyGroup>& groups, const GradientOptions& options) {
  c10::NoGradGuard no_grad;
  const InStage inside(Stage::kLayer);
  SVFLEET_CHECK(adapter.kind() != Apply::kFrozen, "the base has no z");
  const Basis& basis = adapter.table()->basis();
  const auto length = size_t(basis.size());
  GradientResult result{{}, room_for(groups)};
  std::vector<std::vector<double>> dz(groups.size(), std::vector<double>(length, 0));
  const AllocationCount counted;
  PagePool pool(weights);
  const auto bytes = int64_t(c10::elementSize(weights.type())),
             wide_bytes = int64_t(c10::elementSize(weights.wide_type()));
  in_batches(
      cut(groups, options.most_tokens), weights.device(), [&](const std::vector<Part>& parts) {
        const Trees trees = plant(groups, parts, weights.architecture().longest);
        if (trees.predicting.empty()) return;
        const TreePass tree(trees.segments, pool);
        const std::vector<int64_t> rows = rows_of(trees, tree);
        const at::Tensor index = index_tensor(rows, weights.device());
        at::Tensor of_base;
        if (options.kl != KlLoss::kNone) of_base = hidden_at(weights, Adapter(), tree, index, pool);
        Tape tape;
        tape.from = lowest_layer(basis);
        const GradientSize size =
            size_of(basis, weights, pool, trees, tree.pass().rows(), options.kl != KlLoss::kNone);
        const Architecture& arch = weights.architecture();
        tape.again =
            options.again == Again::kAlways ||
            (options.again == Again::kAuto && tape_bytes(arch, size, /*again=*/false, bytes,
                                                         wide_bytes) > most_kept(weights.device()));
        result.predicted_bytes = std::max(
            result.predicted_bytes, gradient_bytes(arch, size, tape.again, bytes, wide_bytes));
        const at::Tensor hidden = hidden_at(weights, adapter, tree, index, pool, &tape);
        const Head::Gradient head =
            weights.head().gradient(hidden, of_base, trees.tokens, options.kl, options.temperature);
        std::vector<RowRange> ranges;
        for (size_t p = 0; p < parts.size(); ++p)
          ranges.push_back({tree.first_row(trees.first_segments[p]),
                            tree.last_row(trees.first_segments[p + 1] - 1) + 1});
        const auto sums = backward(weights, adapter, tree.pass(), pool, std::move(tape),
                                   to_rows(head.d_hidden, rows, tree.pass().rows()), ranges);
        for (size_t p = 0; p < parts.size(); ++p)
          for (size_t i = 0; i < length; ++i) dz[parts[p].group][i] += sums[p][i];
        enter(Stage::kCollect, double(tree.pass().rows()));
        put(groups, parts, head.log_probs, &result.log_probs);
      });
  result.peak_bytes = counted.peak();
  for (const std::vector<double>& own : dz) result.dz.emplace_back(own.begin(), own.end());
  return result;
}

void pack_for_training(const Weights& weights, const Basis& basis, Apply form, bool base_too,
                       const SideBySide& side_by_side) {
  const int lowest = lowest_layer(basis);
  weights.head().matrix().keep_packed(true, true);
  side_by_side(weights.architecture().layers, [&](int64_t layer) {
    for (int j = 0; j < 7; ++j) {
      const int t = basis.find(int(layer), j);
      // The base's own W: left forms and some cores read W x, and W' stands for it nowhere else.
      const bool merged = t >= 0 && form == Apply::kMerged;
      const bool times = base_too || !merged || reads_base_product(basis, size_t(t));
      weights.layer(int(layer)).linears[j].weight.keep_packed(times, layer >= lowest);
      if (t >= 0 && basis.core().decomposed())
        basis.q(size_t(t)).keep_packed(true, true, /*few_rows=*/form == Apply::kActivation);
      if (t >= 0 && form == Apply::kActivation) basis.choose_columns(size_t(t));
    }
  });
}

void pack_for_sampling(const Weights& weights, const Basis& basis, const SideBySide& side_by_side) {
  weights.head().matrix().keep_packed(true, false);
  side_by_side(weights.architecture().layers, [&](int64_t layer) {
    for (int j = 0; j < 7; ++j) {
      weights.layer(int(layer)).linears[j].weight.keep_packed(true, false);
      const int t = basis.find(int(layer), j);
      if (t >= 0 && basis.core().decomposed())
        basis.q(size_t(t)).keep_packed(true, true, /*few_rows=*/true);
      if (t >= 0) basis.choose_columns(size_t(t));
    }
  });
}

ReplyLogProbs reply_log_probs(const Weights& weights, const Adapter& adapter,
                              const std::vector<ReplyGroup>& groups, double temperature) {
  c10::NoGradGuard no_grad;
  const InStage inside(Stage::kLayer);
  ReplyLogProbs out = room_for(groups);
  PagePool pool(weights);
  in_batches(cut(groups, 0), weights.device(), [&](const std::vector<Part>& parts) {
    const Trees trees = plant(groups, parts, weights.architecture().longest);
    if (trees.predicting.empty()) return;
    const TreePass tree(trees.segments, pool);
    const at::Tensor hidden = hidden_at(weights, adapter, tree,
                                        index_tensor(rows_of(trees, tree), weights.device()), pool);
    put(groups, parts, weights.head().log_probs(hidden, trees.tokens.labels, temperature), &out);
  });
  return out;
}

}  // namespace svfleet
