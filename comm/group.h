// Start here: a group of ranks and its collectives, whichever transport carries them.
//
// Every member is collective: all ranks call it in the same order with the same `op` name, from
// one thread (the main thread). A rank is waited for as long as its work moves (comm/watch.h); once
// one has not moved for the group's timeout, the wait ends with an Error (kExitRequeue) that names
// the operation and the ranks that did not arrive. Buffers are host memory. Values are identical on
// all ranks afterwards.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

class Watch;

// Point-to-point bytes, as for the chunk queue, on a communicator of its own. Any thread may call
// it.
class Mailbox {
 public:
  virtual ~Mailbox() = default;
  virtual void send(int rank, int tag, std::string_view bytes) = 0;
  // Returns false at once when nothing from (rank or any = -1, tag or any = -1) is waiting.
  virtual bool try_receive(int* rank, int* tag, std::string* bytes) = 0;
  // Ranks, ascending, to which something is still on its way. A small message has left at once, a
  // large one when it has been taken.
  virtual std::vector<int> untaken() = 0;
};

class Group {
 public:
  virtual ~Group() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string host() const = 0;
  // For messages: "3 (host n2)". Not collective.
  virtual std::string name(int rank) const = 0;

  virtual void barrier(std::string_view op) = 0;
  // `bytes` of rank `root` reach every rank; lengths need not be known before.
  virtual void broadcast(std::string& bytes, int root, std::string_view op) = 0;
  // On rank 0: the bytes of every rank, by rank. Elsewhere: empty.
  virtual std::vector<std::string> gather(std::string_view bytes, std::string_view op) = 0;
  virtual void all_reduce_max(std::span<int32_t> values, std::string_view op) = 0;
  virtual void all_reduce_sum(std::span<int64_t> values, std::string_view op) = 0;
  virtual Mailbox& mailbox() = 0;
  // Another one, for comm/host_ranks.h.
  virtual Mailbox& host_mail() = 0;
  // The signs of life of the ranks, from the group's making to its end; not collective.
  virtual Watch& watch() = 0;
  // The step that timeout messages name; not collective.
  virtual void set_step(int64_t step) = 0;
  virtual int64_t step() const = 0;  // -1 before the first
  // Ends all ranks of the job with this exit code; does not return. Nothing is flushed.
  [[noreturn]] virtual void abort(int code) = 0;
};

struct GroupOptions {
  double timeout_s = 600;
  // No work is given up before its counter has stood still so long: comm/lives.h.
  double least_still_s = 60;
};

// Rank and size as the launcher (mpirun, srun) put them in the environment: 0 and 1 without one.
// Usable before make_world().
int launch_rank();
int launch_size();
// Rank among the ranks of this host; 0 without a launcher.
int launch_local_rank();

// The whole job: MPI when a launcher started more than one rank (or forced by SVFLEET_MPI=1), one
// process otherwise. With launch_size() > 1 in a build without MPI, throws Error(kExitUser).
std::unique_ptr<Group> make_world(const GroupOptions& options);

// A group of one, without MPI.
std::unique_ptr<Group> make_single(const GroupOptions& options = {});

}  // namespace svfleet
