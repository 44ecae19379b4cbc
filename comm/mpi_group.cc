#include "comm/mpi_group.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "comm/arrival.h"
#include "comm/error.h"
#include "comm/mpi_calls.h"
#include "comm/mpi_mailbox.h"
#include "comm/wait.h"
#include "comm/watch.h"

#ifdef __SANITIZE_ADDRESS__
// MPI unloads its plug-ins, and what they leak has then no name by which to leave it out of a leak
// report. In a build that looks for leaks they stay.
extern "C" int dlclose(void*) {
  return 0;
}
#endif

namespace svfleet {
namespace {

// MPI counts are ints, and a piece also bounds the memory of its copy.
constexpr size_t kPieceBytes = size_t{64} << 20;
constexpr int kGatherTag = 3;         // on the control communicator, beside the tags of Arrival
constexpr double kDataSleep = 1e-4;   // everyone is here: look often
constexpr double kStartTimeout = 60;  // a start is slow on a crowded machine, whatever the timeout
constexpr double kEndTimeout = 30;

// A library that can only block.
std::string blocked_in(const char* call) {
  return std::string("svfleet: timeout in ") + call + "; another rank or its node has failed";
}

[[noreturn]] void end_job(int code) {
  Watchdog watchdog(blocked_in("MPI_Abort"), 10, code);
  std::fflush(stdout);  // within the watchdog's time: it may be a file on a disk that hangs
  // Another thread may hold the mutex, but not for long; an abort does not depend on it.
  for (int i = 0; i < 100; ++i) {
    if (mpi_mutex().try_lock()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  MPI_Abort(MPI_COMM_WORLD, code);
  _exit(code);
}

// At exit: a process that leaves MPI open takes the job with it, after main has printed its line.
void end_unfinished_job(int status, void*) {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) end_job(status != 0 ? status : static_cast<int>(kExitInternal));
}

MPI_Comm duplicate(std::string_view op, double timeout_s) {
  auto made = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  const bool in_time = lend_to_mpi(made, [&](MPI_Comm* comm) {
    MPI_Request request;
    mpi_call("MPI_Comm_idup", op, [&] { return MPI_Comm_idup(MPI_COMM_WORLD, comm, &request); });
    return mpi_wait(&request, Deadline(timeout_s), kDataSleep, op);
  });
  if (!in_time) throw Error(kExitRequeue, expiry(timeout_s, op, -1) + ": some rank did not arrive");
  const MPI_Comm copy = *made;
  mpi_call("MPI_Comm_set_errhandler", op,
           [&] { return MPI_Comm_set_errhandler(copy, MPI_ERRORS_RETURN); });
  return copy;
}

class MpiGroup : public Group {
 public:
  explicit MpiGroup(const GroupOptions& options) : timeout_s_(options.timeout_s) {
    const double start_s = std::max(timeout_s_, kStartTimeout);
    start_mpi(start_s);
    data_ = duplicate("make the data communicator", start_s);
    control_ = std::make_unique<MpiMailbox>(duplicate("make the control communicator", start_s),
                                            timeout_s_);
    mail_ = std::make_unique<MpiMailbox>(duplicate("make the mailbox", start_s), timeout_s_);
    host_mail_ =
        std::make_unique<MpiMailbox>(duplicate("make the mailbox of hosts", start_s), timeout_s_);
    signs_ =
        std::make_unique<MpiMailbox>(duplicate("make the mailbox of signs", start_s), timeout_s_);
    arrival_ = std::make_unique<Arrival>(*control_, rank_, size_);
    learn_hosts(start_s);
    watch_ = std::make_unique<Watch>(*this, signs_.get(), options);
    arrival_->set_watch(watch_.get());
  }

  ~MpiGroup() override {
    if (std::uncaught_exceptions() > exceptions_at_start_ || !broken_.empty()) return;
    try {
      barrier("end of the job");
      mail_->flush(Deadline(kEndTimeout));
      control_->flush(Deadline(kEndTimeout));
      host_mail_->flush(Deadline(kEndTimeout));
    } catch (const std::exception& error) {
      Watchdog watchdog(std::string("svfleet: ") + error.what(), kEndTimeout, kExitRequeue);
      std::fprintf(stderr, "svfleet: %s\n", error.what());
      return;
    }
    arrival_->set_watch(nullptr);
    watch_.reset();
    Watchdog watchdog(blocked_in("MPI_Finalize"), kEndTimeout, kExitRequeue);
    std::lock_guard<std::mutex> lock(mpi_mutex());
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string host() const override { return host_; }
  std::string name(int rank) const override { return arrival_->name(rank); }
  Mailbox& mailbox() override { return *mail_; }
  Mailbox& host_mail() override { return *host_mail_; }
  Watch& watch() override { return *watch_; }
  void set_step(int64_t step) override { step_ = step; }
  int64_t step() const override { return step_; }
  [[noreturn]] void abort(int code) override { end_job(code); }

  void barrier(std::string_view op) override {
    collective(op, "barrier", [] {});
  }

  void broadcast(std::string& bytes, int root, std::string_view op) override {
    SVFLEET_CHECK(root >= 0 && root < size_, "root ", root, " of '", op, "' with ", size_,
                  " ranks");
    collective(op, "broadcast from " + std::to_string(root), [&] {
      auto size = std::make_unique<int64_t>(bytes.size());
      run(
          std::move(size), op,
          [&](int64_t* n, MPI_Request* request) {
            return MPI_Ibcast(n, 1, MPI_INT64_T, root, data_, request);
          },
          [&](int64_t* n) { bytes.resize(*n); });
      for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
        const size_t n = std::min(kPieceBytes, bytes.size() - at);
        run(
            std::make_unique<std::string>(bytes, at, n), op,
            [&](std::string* piece, MPI_Request* request) {
              return MPI_Ibcast(piece->data(), static_cast<int>(n), MPI_BYTE, root, data_, request);
            },
            [&](std::string* piece) { std::memcpy(bytes.data() + at, piece->data(), n); });
      }
    });
  }

  std::vector<std::string> gather(std::string_view bytes, std::string_view op) override {
    std::vector<std::string> all;
    collective(op, "gather", [&] { all = gather_pieces(bytes, op); });
    return all;
  }

  void all_reduce_max(std::span<int32_t> values, std::string_view op) override {
    all_reduce(values, MPI_INT32_T, MPI_MAX, "maximum", op);
  }

  void all_reduce_sum(std::span<int64_t> values, std::string_view op) override {
    all_reduce(values, MPI_INT64_T, MPI_SUM, "sum", op);
  }

 private:
  void start_mpi(double start_s) {
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    host_ = name;
    std::lock_guard<std::mutex> lock(mpi_mutex());
    int initialized = 0;
    MPI_Initialized(&initialized);
    SVFLEET_CHECK(!initialized, "a second world group in one process on ", host_);
    int provided = 0;
    {
      Watchdog watchdog(blocked_in("MPI_Init_thread"), start_s, kExitRequeue);
      check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided),
                "MPI_Init_thread", "start");
    }
    on_exit(end_unfinished_job, nullptr);
    if (provided < MPI_THREAD_SERIALIZED)
      throw user_error(
          "this MPI does not allow calls from several threads; use an MPI that provides "
          "MPI_THREAD_SERIALIZED");
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank", "start");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size", "start");
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler",
              "start");
  }

  // Every rank learns all hosts, so that any of them can name a missing one.
  void learn_hosts(double start_s) {
    const double timeout_s = std::exchange(timeout_s_, start_s);
    const std::vector<std::string> hosts = gather(host_, "gather the hosts");
    std::string joined;
    for (const std::string& host : hosts) joined += host + '\n';
    broadcast(joined, 0, "tell the hosts");
    std::vector<std::string> all;
    for (size_t at = 0; at < joined.size();) {
      const size_t end = joined.find('\n', at);
      all.push_back(joined.substr(at, end - at));
      at = end + 1;
    }
    arrival_->set_hosts(std::move(all));
    timeout_s_ = timeout_s;
  }

  // All ranks meet, then the body runs. A failure ends the group: what a failed collective left
  // behind in MPI cannot be matched again.
  template <class Body>
  void collective(std::string_view op, const std::string& kind, Body&& body) {
    if (!broken_.empty()) throw Error(broken_code_, broken_);
    SVFLEET_CHECK(!busy_.exchange(true), "'", op, "' while another thread is in a collective");
    const InStage waiting(Stage::kWaiting);
    try {
      std::string what("'");
      what.append(op).append("' (").append(kind).append(")");
      arrival_->meet(what, op, step_, timeout_s_);
      body();
    } catch (const Error& error) {
      broken_ = error.what();
      broken_code_ = error.code();
      busy_ = false;
      throw;
    } catch (const std::exception& error) {  // out of memory in the middle of a transfer
      broken_ = error.what();
      busy_ = false;
      throw;
    }
    busy_ = false;
  }

  // A non-blocking MPI collective on a copy; done(copy) takes the result.
  template <class Buffer, class Start, class Done>
  void run(std::unique_ptr<Buffer> copy, std::string_view op, Start&& start, Done&& done) {
    const bool in_time = lend_to_mpi(copy, [&](Buffer* buffer) {
      MPI_Request request;
      mpi_call("MPI collective", op, [&] { return start(buffer, &request); });
      return mpi_wait(&request, Deadline(timeout_s_), kDataSleep, op);
    });
    if (!in_time) lost_in_transfer(op);
    done(copy.get());
  }

  [[noreturn]] void lost_in_transfer(std::string_view op) {
    throw Error(kExitRequeue, expiry(timeout_s_, op, step_) +
                                  ": all ranks arrived, but the transfer did not end on rank " +
                                  arrival_->name(rank_) + "; a rank or the network has failed");
  }

  template <class T>
  void all_reduce(std::span<T> values, MPI_Datatype type, MPI_Op how, const char* kind,
                  std::string_view op) {
    collective(op, std::string(kind) + " of " + std::to_string(values.size()) + " numbers", [&] {
      const size_t most = kPieceBytes / sizeof(T);
      for (size_t at = 0; at < values.size(); at += most) {
        const std::span<T> part = values.subspan(at, std::min(most, values.size() - at));
        run(
            std::make_unique<std::vector<T>>(part.begin(), part.end()), op,
            [&](std::vector<T>* piece, MPI_Request* request) {
              return MPI_Iallreduce(MPI_IN_PLACE, piece->data(), static_cast<int>(piece->size()),
                                    type, how, data_, request);
            },
            [&](std::vector<T>* piece) { std::copy(piece->begin(), piece->end(), part.begin()); });
      }
    });
  }

  // Each rank sends its length, then its pieces; messages of one rank keep their order.
  std::vector<std::string> gather_pieces(std::string_view bytes, std::string_view op) {
    const Deadline deadline(timeout_s_);
    if (rank_ != 0) {
      const int64_t length = bytes.size();
      control_->send(0, kGatherTag, {reinterpret_cast<const char*>(&length), sizeof length});
      for (size_t at = 0; at < bytes.size(); at += kPieceBytes)
        control_->send(0, kGatherTag, bytes.substr(at, kPieceBytes));
      if (!control_->flush(deadline)) lost_in_transfer(op);
      return {};
    }
    std::vector<std::string> all(size_);
    all[0] = bytes;
    for (int rank = 1; rank < size_; ++rank) {
      int64_t length = 0;
      const std::string head = next_piece(rank, deadline, op);
      SVFLEET_CHECK(head.size() == sizeof length, head.size(), " bytes of length in '", op, "'");
      std::memcpy(&length, head.data(), sizeof length);
      while (static_cast<int64_t>(all[rank].size()) < length)
        all[rank] += next_piece(rank, deadline, op);
    }
    return all;
  }

  std::string next_piece(int rank, const Deadline& deadline, std::string_view op) {
    Patience patience(kDataSleep);
    std::string piece;
    int tag = kGatherTag;
    while (!control_->try_receive(&rank, &tag, &piece)) {
      if (deadline.passed())
        throw Error(kExitRequeue, expiry(timeout_s_, op, step_) + ": rank " + arrival_->name(rank) +
                                      " stopped sending");
      patience.pause();
    }
    return piece;
  }

  double timeout_s_;
  int rank_ = 0;
  int size_ = 1;
  std::string host_;
  const int exceptions_at_start_ = std::uncaught_exceptions();
  MPI_Comm data_ = MPI_COMM_NULL;  // freed by MPI_Finalize, like the others
  std::unique_ptr<MpiMailbox> control_;
  std::unique_ptr<MpiMailbox> mail_;
  std::unique_ptr<MpiMailbox> host_mail_;
  std::unique_ptr<MpiMailbox> signs_;
  std::unique_ptr<Arrival> arrival_;
  std::atomic<int64_t> step_{-1};
  std::atomic<bool> busy_{false};
  std::string broken_;  // why no collective can run any more
  ExitCode broken_code_ = kExitInternal;
  std::unique_ptr<Watch> watch_;  // the last: it looks at the others
};

}  // namespace

std::unique_ptr<Group> make_mpi_group(const GroupOptions& options) {
  return std::make_unique<MpiGroup>(options);
}

}  // namespace svfleet
