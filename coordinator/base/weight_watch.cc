#include "coordinator/base/weight_watch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "checkpoints/hash.h"
#include "comm/clock.h"

namespace svfleet {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;
constexpr double kShareOfStep = 0.01;

std::string hash_of(const at::Tensor& part) {
  const at::Tensor here = part.cpu();
  return hash_bytes({static_cast<const char*>(here.data_ptr()), here.nbytes()});
}

}  // namespace

int64_t steps_of_round(double all_s, double step_s, int64_t pieces) {
  const double steps = std::ceil(all_s / (kShareOfStep * std::max(step_s, 1e-9)));
  return int64_t(std::clamp(steps, 1.0, double(std::max<int64_t>(pieces, 1))));
}

WeightWatch::WeightWatch(const NamedTensors& frozen, Crew& crew, int64_t step)
    : crew_(crew), clean_step_(step) {
  for (const auto& [name, tensor] : frozen) {
    const at::Tensor flat = tensor.view({-1});
    const int64_t most = kPieceBytes / flat.element_size();
    for (int64_t at = 0; at < flat.numel(); at += most)
      pieces_.push_back({name, flat.narrow(0, at, std::min(most, flat.numel() - at)), ""});
  }
  const double start = steady_clock_s();
  crew_.side_by_side(int64_t(pieces_.size()),
                     [&](int64_t i) { pieces_[i].hash = hash_of(pieces_[i].part); });
  all_s_ = steady_clock_s() - start;
}

std::string WeightWatch::changed(int64_t first, int64_t last) {
  const double start = steady_clock_s();
  std::mutex mutex;
  int64_t found = last;
  crew_.side_by_side(last - first, [&](int64_t i) {
    if (hash_of(pieces_[first + i].part) == pieces_[first + i].hash) return;
    std::lock_guard lock(mutex);
    found = std::min(found, first + i);
  });
  round_s_ += steady_clock_s() - start;
  return found == last ? "" : pieces_[found].name;
}

std::string WeightWatch::tell_all(const std::string& here) {
  changed_here_ = !here.empty();
  Group& group = crew_.group();
  const std::vector<std::string> found = group.gather(here, "compare frozen weights");
  std::string told;
  for (size_t rank = 0; rank < found.size(); ++rank)
    if (!found[rank].empty())
      told += (told.empty() ? "" : ", ") + found[rank] + " on rank " + group.name(int(rank));
  group.broadcast(told, 0, "compare frozen weights");
  return told;
}

std::string WeightWatch::after_step(int64_t step, double step_s) {
  const int64_t all = int64_t(pieces_.size());
  int32_t told[2] = {0, int32_t(steps_of_round(all_s_, step_s, all))};
  if (length_ == 0) {  // the first round
    crew_.group().all_reduce_max(told, "watch frozen weights");
    length_ = told[1];
  }
  if (done_ == 0) {
    began_ = step;
    round_s_ = 0;
  }
  const std::string here = changed(all * done_ / length_, all * (done_ + 1) / length_);
  told[0] = !here.empty();
  crew_.group().all_reduce_max(told, "watch frozen weights");
  if (told[0]) return tell_all(here);
  if (++done_ < length_) return "";
  clean_step_ = began_;
  all_s_ = round_s_;
  length_ = told[1];
  done_ = 0;
  return "";
}

std::string WeightWatch::look_at_all(int64_t step) {
  round_s_ = 0;
  const std::string here = changed(0, int64_t(pieces_.size()));
  int32_t told[1] = {!here.empty()};
  crew_.group().all_reduce_max(told, "watch frozen weights");
  if (told[0]) return tell_all(here);
  clean_step_ = step;
  done_ = 0;
  return "";
}

}  // namespace svfleet
