#include "comm/lives.h"

#include <algorithm>
#include <cstring>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr double kTimesLongest = 6;
constexpr double kMostBetweenSigns = 3;  // s

template <class T>
void put(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T take(const std::string& bytes, size_t& at) {
  SVFLEET_CHECK(at + sizeof(T) <= bytes.size(), bytes.size(), " bytes in a sign of life");
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  at += sizeof value;
  return value;
}

// Whether its worker is at another chunk, which the rank says that it has: one that waits behind
// nothing has been forgotten, and its clock runs.
bool waits(const Sign& sign, const Sign::Work& work) {
  return work.behind != Sign::kNothing &&
         std::any_of(sign.works.begin(), sign.works.end(), [&](const Sign::Work& other) {
           return other.chunk == work.behind && other.behind == Sign::kNothing;
         });
}

}  // namespace

std::string Sign::pack() const {
  std::string bytes;
  for (const uint64_t bits : seen) put(bytes, bits);
  for (const Work& work : works) {
    put(bytes, work.chunk);
    put(bytes, work.value);
    put(bytes, work.behind);
  }
  return bytes;
}

Sign Sign::unpack(const std::string& bytes) {
  Sign sign;
  size_t at = 0;
  for (uint64_t& bits : sign.seen) bits = take<uint64_t>(bytes, at);
  while (at < bytes.size()) {
    const auto chunk = take<int32_t>(bytes, at);
    const auto value = take<uint64_t>(bytes, at);
    sign.works.push_back({chunk, value, take<int32_t>(bytes, at)});
  }
  return sign;
}

Lives::Lives(int ranks, double timeout_s, double least_s)
    : timeout_s_(timeout_s), least_s_(least_s), lives_(size_t(ranks)) {}

void Lives::heard(int rank, const Sign& sign, double now_s) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (int i = 0; i < kStages; ++i) seen_[i] |= sign.seen[i];
  Life& life = lives_.at(size_t(rank));
  const double since = std::min(now_s - life.heard_s, kMostBetweenSigns);
  std::map<int32_t, Standing> works;
  for (const Sign::Work& work : sign.works) {
    const auto before = life.works.find(work.chunk);
    double for_s = 0;
    if (waits(sign, work)) {
      // Neither does it stand still, nor has a stage of it come to an end.
    } else if (before != life.works.end() && before->second.value == work.value) {
      for_s = before->second.for_s + since;
    } else {
      if (StageCounter::class_of(work.value).stage != Stage::kWaiting) life.moved_s = now_s;
      if (before != life.works.end()) {
        float& longest = longest_s_[size_t(StageCounter::class_of(before->second.value).index())];
        longest = std::max(longest, float(before->second.for_s));
      }
    }
    works[work.chunk] = {work.value, for_s};
  }
  life.works = std::move(works);
  life.heard_s = now_s;
}

double Lives::silent_s(int rank, double now_s) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return now_s - lives_.at(size_t(rank)).heard_s;
}

double Lives::still_s(int rank, double now_s) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return now_s - lives_.at(size_t(rank)).moved_s;
}

bool Lives::seen(StageClass at) const {
  return at.stage != Stage::kUnknown && (seen_[size_t(at.stage)] >> at.size & 1);
}

double Lives::limit_s(StageClass at) const {
  if (!seen(at)) return std::max(least_s_, kPatience * timeout_s_);
  return std::max(least_s_, kTimesLongest * double(longest_s_[size_t(at.index())]));
}

std::optional<Still> Lives::worst(const std::vector<Holding>& held) const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::optional<Still> worst;
  for (const Holding& one : held) {
    const auto& works = lives_.at(size_t(one.rank)).works;
    const auto work = works.find(one.chunk);
    // The rank does not say that it has it: nothing is known.
    Still still{one.rank, one.chunk, {}, one.seconds, limit_s({})};
    if (work != works.end()) {
      still.at = StageCounter::class_of(work->second.value);
      still.for_s = work->second.for_s;
      still.limit_s = limit_s(still.at);
    }
    if (!worst || still.for_s - still.limit_s > worst->for_s - worst->limit_s) worst = still;
  }
  return worst;
}

std::optional<Still> Lives::outside(int rank) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto& works = lives_.at(size_t(rank)).works;
  const auto work = works.find(Sign::kOutside);
  if (work == works.end()) return std::nullopt;
  const StageClass at = StageCounter::class_of(work->second.value);
  if (at.stage == Stage::kUnknown || at.stage == Stage::kWaiting) return std::nullopt;
  Still still{rank, Sign::kOutside, at, work->second.for_s, limit_s(at)};
  if (at.stage == Stage::kStep || !seen(at)) {
    const double longest_s = double(longest_s_[size_t(at.index())]);
    still.limit_s = std::max({least_s_, timeout_s_, kTimesLongest * longest_s});
  }
  return still;
}

}  // namespace svfleet
