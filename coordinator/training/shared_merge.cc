#include "coordinator/training/shared_merge.h"

#include <ATen/ATen.h>

#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <optional>
#include <string>

#include "checkpoints/hash.h"
#include "checkpoints/payload.h"
#include "comm/error.h"
#include "comm/host_ranks.h"
#include "worker/test_fault.h"

namespace svfleet {
namespace {

constexpr size_t kHashDigits = 32;

// On the wire: the hash of all that follows, the hash of z, the share of the gain, and W' row by
// row, or nothing where it is W.
std::string pack(const MergedPart& part) {
  SVFLEET_CHECK(part.hash.size() == kHashDigits, "hash '", part.hash, "'");
  std::string bytes(kHashDigits, ' ');
  bytes += part.hash;
  const double gain[] = {part.along, part.wanted};
  put_numbers(bytes, gain, 2);
  if (part.weight.defined())
    bytes.append(static_cast<const char*>(part.weight.data_ptr()), part.weight.nbytes());
  const std::string hash = hash_bytes(std::string_view(bytes).substr(kHashDigits));
  bytes.replace(0, kHashDigits, hash);
  return bytes;
}

// Nothing where the bytes are not those that were packed.
std::optional<MergedPart> unpack(const std::string& bytes, const Target& target,
                                 at::ScalarType type) {
  std::string_view left = bytes;
  if (left.size() < 2 * kHashDigits) return std::nullopt;
  const std::string_view told = left.substr(0, kHashDigits);
  left.remove_prefix(kHashDigits);
  if (hash_bytes(left) != told) return std::nullopt;
  MergedPart part;
  part.hash = left.substr(0, kHashDigits);
  left.remove_prefix(kHashDigits);
  std::vector<double> gain;
  if (!take_numbers(left, 2, gain)) return std::nullopt;
  part.along = gain[0], part.wanted = gain[1];
  if (left.empty()) return part;
  part.weight = at::empty({target.rows, target.cols}, type);
  SVFLEET_CHECK(left.size() == part.weight.nbytes(), left.size(), " bytes for W' of ", target.name);
  std::memcpy(part.weight.data_ptr(), left.data(), left.size());
  return part;
}

// What tests spoil on its way: the W' of the z before in place of this one's, or a bit.
void spoil(size_t t, std::string& bytes) {
  static std::map<size_t, std::string> before;
  std::string& last = before[t];
  const std::string now = bytes;
  if (test_fault_is("stale_weight") && !last.empty()) bytes = last;
  if (test_fault_is("bent_weight")) bytes.back() = char(bytes.back() ^ 1);
  last = now;
}

// Collective over the ranks of a host. What fails on a rank is told at the end: until then the
// others wait for what it has, and it takes what they have. Who cannot give gives nothing.
void give_and_take(const Base& base, HostRanks& ranks, const Group& group, std::span<const float> z,
                   const std::vector<int>& shares, Merged& merged) {
  const std::vector<Target>& targets = base.basis->targets();
  std::exception_ptr failed;
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (...) {
      if (!failed) failed = std::current_exception();
    }
  };
  for (size_t t = 0; t < targets.size(); ++t) {
    if (shares[t] < 0) continue;
    const bool mine = shares[t] == ranks.place();
    std::string bytes;
    if (mine) {
      attempt([&] {
        bytes = pack(merged.part(t));
        if (kTestFaults) spoil(t, bytes);
      });
    }
    try {
      ranks.broadcast(bytes, shares[t], "share W' of " + targets[t].name);
    } catch (const std::bad_alloc&) {
      if (!failed) failed = std::current_exception();
    }
    if (mine || failed || bytes.empty()) continue;
    const std::string giver = "rank " + group.name(ranks.ranks()[size_t(shares[t])]);
    attempt([&] {
      const auto part = unpack(bytes, targets[t], base.weights->type());
      if (!part)
        throw node_error(kExitRequeue, giver, " gave W' of ", targets[t].name,
                         " that is not what it built: bytes were damaged on their way; bad memory; "
                         "start again");
      merged.take(*base.weights, z, t, *part, giver);
    });
  }
  if (failed) std::rethrow_exception(failed);
}

}  // namespace

SharedMerge merge_together(const Base& base, Crew& crew, std::span<const float> z, Merged before) {
  const auto side_by_side = [&](int64_t count, const auto& work) {
    crew.side_by_side(count, work);
  };
  HostRanks& ranks = crew.host_ranks();
  SharedMerge made;
  made.built_by_rank.assign(size_t(crew.ranks()), 0);
  if (!ranks.any_shared() || crew.device().on_gpu()) {
    made.merged = Merged(*base.weights, *base.basis, z, std::move(before), side_by_side);
    made.built_by_rank.assign(size_t(crew.ranks()), made.merged.built());
    return made;
  }
  const std::vector<int> shares = merge_shares(*base.basis, z, ranks.count());
  // All are there, and none has failed, before any waits for another's.
  crew.together("build merged weights", [&] {
    std::vector<bool> wanted;
    for (const int place : shares) wanted.push_back(place < 0 || place == ranks.place());
    made.merged = Merged(*base.weights, *base.basis, z, std::move(before), side_by_side, wanted);
  });
  crew.together("share merged weights",
                [&] { give_and_take(base, ranks, crew.group(), z, shares, made.merged); });
  // Here, where no rank has failed: a rank that could not give has told why.
  SVFLEET_CHECK(made.merged.whole(), "a W' of none");
  made.built_by_rank[size_t(crew.group().rank())] = made.merged.built();
  crew.group().all_reduce_sum(made.built_by_rank, "count merged weights");
  return made;
}

}  // namespace svfleet
