// Experts whose change is low in rank by itself, as LoRAs: those of core lora, and blocks.
//   right: W + W Q_k C Q_k^T = W + B A,  B = W Q_k C,  A = Q_k^T
//   left:  W + Q_k C Q_k^T W = W + B A,  B = Q_k C,    A = Q_k^T W
#pragma once

#include "coordinator/sharing/lora.h"
#include "coordinator/sharing/opened.h"

namespace svfleet {

// Of target t, exact, with the core's own scale in B. Rank 0 where it changes nothing.
// Error(kExitUser) for a core without such a change, and for a rank above `most`: none is cut.
LoraFactors core_lora(const OpenedExpert& opened, size_t t, int64_t most);

}  // namespace svfleet
