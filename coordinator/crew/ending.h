// How a start of a run ends, for whoever decides whether it is started again: RUN/exit.json, and
// the end in the ledger.
#pragma once

#include <exception>
#include <string>

#include "coordinator/crew/crew.h"
#include "coordinator/run/folder.h"
#include "coordinator/run/ledger.h"

namespace svfleet {

// On rank 0, elsewhere nothing. An empty `reason` is made from `code`. `step`: finished and saved;
// `best`: the state that knows the best step, where there is one. A writer that was taken over says
// nothing: Error.
void report_end(const RunFolder& folder, Crew& crew, Ledger* ledger, int code, std::string reason,
                int64_t step, const RunState* best = nullptr);

// For the exception that is to end this process: whatever hangs on the way out, it ends within
// seconds from now.
void end_soon(const std::exception_ptr& failure, const Crew& crew);

// Any rank, for the exception that ends it. What all ranks throw alike (AgreedError) is reported by
// rank 0 and, should its machine be the one at fault, by the first rank of another. Of a rank that
// is alone with its error the others know nothing: it reports itself, and what has been reported
// of this start stands; rank 0 adds its hosts to its own. Returns the error to end with.
Error report_failure(const std::exception_ptr& failure, const RunFolder& folder, Crew& crew,
                     Ledger* ledger);

}  // namespace svfleet
