#include "comm/mpi_mailbox.h"

#include <set>

#include "comm/error.h"
#include "comm/mpi_calls.h"

namespace svfleet {

MpiMailbox::MpiMailbox(MPI_Comm comm, double timeout_s) : comm_(comm), timeout_s_(timeout_s) {}

MpiMailbox::~MpiMailbox() {
  if (!outgoing_.empty()) new std::list<Outgoing>(std::move(outgoing_));
}

void MpiMailbox::send(int rank, int tag, std::string_view bytes) {
  SVFLEET_CHECK(bytes.size() <= (size_t{1} << 30), bytes.size(), " bytes in one message");
  std::lock_guard<std::mutex> lock(mpi_mutex());
  drop_sent();
  Outgoing& message = outgoing_.emplace_back();
  message.rank = rank;
  message.bytes = bytes;
  const int result = MPI_Isend(message.bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, rank,
                               tag, comm_, &message.request);
  if (result != MPI_SUCCESS) outgoing_.pop_back();
  check_mpi(result, "MPI_Isend", "send a message");
}

bool MpiMailbox::try_receive(int* rank, int* tag, std::string* bytes) {
  auto incoming = std::make_unique<std::string>();
  bool nothing = false;
  const bool in_time = lend_to_mpi(incoming, [&](std::string* buffer) {
    MPI_Request request;
    nothing = !start_receive(rank, tag, buffer, &request);
    return nothing || mpi_wait(&request, Deadline(timeout_s_), 1e-4, "receive a message");
  });
  if (!in_time)
    throw make_error(kExitRequeue, "timeout after ", timeout_s_, " s in 'receive a message': rank ",
                     *rank, " began a message and did not finish it");
  if (nothing) return false;
  *bytes = std::move(*incoming);
  return true;
}

bool MpiMailbox::start_receive(int* rank, int* tag, std::string* buffer, MPI_Request* request) {
  std::lock_guard<std::mutex> lock(mpi_mutex());
  drop_sent();
  int waiting = 0;
  MPI_Message message;
  MPI_Status status;
  check_mpi(MPI_Improbe(*rank == -1 ? MPI_ANY_SOURCE : *rank, *tag == -1 ? MPI_ANY_TAG : *tag,
                        comm_, &waiting, &message, &status),
            "MPI_Improbe", "receive a message");
  if (!waiting) return false;
  int size = 0;
  check_mpi(MPI_Get_count(&status, MPI_BYTE, &size), "MPI_Get_count", "receive a message");
  buffer->resize(size);
  check_mpi(MPI_Imrecv(buffer->data(), size, MPI_BYTE, &message, request), "MPI_Imrecv",
            "receive a message");
  *rank = status.MPI_SOURCE;
  *tag = status.MPI_TAG;
  return true;
}

std::vector<int> MpiMailbox::untaken() {
  std::lock_guard<std::mutex> lock(mpi_mutex());
  drop_sent();
  std::set<int> ranks;
  for (const Outgoing& message : outgoing_) ranks.insert(message.rank);
  return {ranks.begin(), ranks.end()};
}

bool MpiMailbox::flush(const Deadline& deadline) {
  Patience patience(1e-4);
  while (true) {
    {
      std::lock_guard<std::mutex> lock(mpi_mutex());
      drop_sent();
      if (outgoing_.empty()) return true;
    }
    if (deadline.passed()) return false;
    patience.pause();
  }
}

void MpiMailbox::drop_sent() {
  for (auto message = outgoing_.begin(); message != outgoing_.end();) {
    int done = 0;
    check_mpi(MPI_Test(&message->request, &done, MPI_STATUS_IGNORE), "MPI_Test", "send a message");
    message = done ? outgoing_.erase(message) : std::next(message);
  }
}

}  // namespace svfleet
