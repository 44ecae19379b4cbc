#include "comm/agreement.h"

#include <algorithm>
#include <map>
#include <sstream>

namespace svfleet {
namespace {

// Gravest first: a bug of ours, what a person must do, what no restart on other machines mends.
int gravity(const Error& error) {
  switch (error.code()) {
    case kExitInternal:
      return 5;
    case kExitNoProgress:
      return 4;
    case kExitUser:
      return 3;
    case kExitDisk:
      return error.of_node() ? 1 : 2;
    default:
      return 0;
  }
}

// Lines, since texts of errors are single ones.
std::string encode(const Part& part) {
  std::ostringstream out;
  out << part.stop << ' ' << part.did_some << ' ' << part.failure.has_value();
  if (part.failure)
    out << ' ' << part.failure->error.code() << ' ' << part.failure->error.of_node() << ' '
        << part.failure->maybe_ours << '\n'
        << part.place << '\n'
        << part.failure->error.what() << '\n';
  return out.str();
}

Part decode(const std::string& bytes) {
  std::istringstream in(bytes);
  Part part;
  bool failed = false;
  SVFLEET_CHECK(in >> part.stop >> part.did_some >> failed, bytes);
  if (!failed) return part;
  int code = 0;
  bool of_node = false, maybe_ours = false;
  std::string text;
  SVFLEET_CHECK(in >> code >> of_node >> maybe_ours && in.ignore() &&
                    std::getline(in, part.place) && std::getline(in, text),
                bytes);
  part.failure = Failure{Error(ExitCode(code), text, of_node), maybe_ours};
  return part;
}

std::string encode(bool stop, const std::optional<AgreedError>& error) {
  std::ostringstream out;
  out << stop << ' ' << error.has_value();
  if (error) {
    out << ' ' << error->code() << ' ' << error->hosts().size() << '\n'
        << error->place() << '\n'
        << error->what() << '\n';
    for (const std::string& host : error->hosts()) out << host << '\n';
  }
  return out.str();
}

bool decode_and_throw(const std::string& bytes) {
  std::istringstream in(bytes);
  bool stop = false, failed = false;
  SVFLEET_CHECK(in >> stop >> failed, bytes);
  if (!failed) return stop;
  int code = 0;
  size_t count = 0;
  std::string place, text;
  SVFLEET_CHECK(
      in >> code >> count && in.ignore() && std::getline(in, place) && std::getline(in, text),
      bytes);
  std::vector<std::string> hosts(count);
  for (std::string& host : hosts) std::getline(in, host);
  throw AgreedError(ExitCode(code), text, std::move(hosts), place);
}

}  // namespace

std::optional<AgreedError> verdict(const std::vector<Part>& parts,
                                   const std::vector<std::string>& names,
                                   const std::vector<std::string>& hosts) {
  const auto done_elsewhere = [&](const std::string& host) {
    for (size_t rank = 0; rank < parts.size(); ++rank)
      if (hosts[rank] != host && parts[rank].did_some) return true;
    return false;
  };
  std::optional<Failure> gravest;
  size_t of_rank = 0;
  std::vector<std::string> at_fault;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    if (!parts[rank].failure) continue;
    Failure failure = *parts[rank].failure;
    const bool disk = failure.error.code() == kExitUser && failure.error.of_node();
    if (disk && done_elsewhere(hosts[rank]))
      failure.error = Error(kExitDisk, failure.error.what(), true);
    if (failure.error.of_node() && failure.error.code() != kExitUser &&
        std::find(at_fault.begin(), at_fault.end(), hosts[rank]) == at_fault.end())
      at_fault.push_back(hosts[rank]);
    if (!gravest || gravity(failure.error) > gravity(gravest->error))
      gravest = failure, of_rank = rank;
  }
  if (!gravest) return std::nullopt;
  if (!gravest->error.of_node() || gravest->error.code() == kExitUser) at_fault.clear();
  const std::string& place = parts[of_rank].place;
  std::string where = parts.size() == 1 && place.empty() ? "" : "rank " + names[of_rank];
  if (!place.empty()) where += ", " + place;
  if (!where.empty()) where += ": ";
  return AgreedError(gravest->error.code(), where + gravest->error.what(), at_fault,
                     gravest->maybe_ours ? place : "");
}

bool end_together(Group& group, const std::vector<std::string>& hosts, const Part& mine,
                  const std::string& op) {
  std::vector<Part> parts;
  std::vector<std::string> names;
  for (const std::string& bytes : group.gather(encode(mine), op)) {
    names.push_back(group.name(int(parts.size())));
    parts.push_back(decode(bytes));
  }
  std::string told;
  if (group.rank() == 0) {
    const bool stop =
        std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.stop; });
    told = encode(stop, verdict(parts, names, hosts));
  }
  group.broadcast(told, 0, op);
  return decode_and_throw(told);
}

std::optional<std::vector<int>> minority(const std::vector<std::string>& values) {
  std::map<std::string, size_t> count;
  for (const std::string& value : values) ++count[value];
  for (const auto& [value, times] : count) {
    if (2 * times <= values.size()) continue;
    std::vector<int> others;
    for (size_t rank = 0; rank < values.size(); ++rank)
      if (values[rank] != value) others.push_back(int(rank));
    return others;
  }
  return std::nullopt;
}

}  // namespace svfleet
