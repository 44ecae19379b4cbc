// Messages of bytes over one communicator, without blocking on either side.
#pragma once

#include <mpi.h>

#include <list>
#include <string>
#include <vector>

#include "comm/group.h"
#include "comm/wait.h"

namespace svfleet {

class MpiMailbox : public Mailbox {
 public:
  // Takes over `comm`, a communicator of its own.
  MpiMailbox(MPI_Comm comm, double timeout_s);
  // Leaves what has not been sent to MPI: it may still read the buffers.
  ~MpiMailbox() override;

  // At most 1 GiB. Keeps a copy until MPI has sent it.
  void send(int rank, int tag, std::string_view bytes) override;
  bool try_receive(int* rank, int* tag, std::string* bytes) override;
  std::vector<int> untaken() override;
  // False when some message had not left when the deadline came.
  bool flush(const Deadline& deadline);

 private:
  struct Outgoing {
    MPI_Request request;
    int rank;
    std::string bytes;
  };
  // False when nothing is waiting. Sets rank and tag to those of the message.
  bool start_receive(int* rank, int* tag, std::string* buffer, MPI_Request* request);
  void drop_sent();  // the mutex is held

  MPI_Comm comm_;
  double timeout_s_;
  std::list<Outgoing> outgoing_;  // under mpi_mutex()
};

}  // namespace svfleet
