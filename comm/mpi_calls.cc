#include "comm/mpi_calls.h"

#include <string>

#include "comm/error.h"

namespace svfleet {

std::mutex& mpi_mutex() {
  // Never destroyed: MPI_Abort may run among the last exit handlers.
  static std::mutex* mutex = new std::mutex;
  return *mutex;
}

void check_mpi(int result, const char* call, std::string_view op) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(result, text, &length);
  int rank = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  throw make_error(kExitRequeue, call, " failed in '", op, "' on rank ", rank, ": ", text,
                   "; another rank or the network has failed, start the job again");
}

bool mpi_wait(MPI_Request* request, const Deadline& deadline, double longest_sleep_s,
              std::string_view op) {
  Patience patience(longest_sleep_s);
  while (true) {
    int done = 0;
    mpi_call("MPI_Test", op, [&] { return MPI_Test(request, &done, MPI_STATUS_IGNORE); });
    if (done) return true;
    if (deadline.passed()) return false;
    patience.pause();
  }
}

}  // namespace svfleet
