// Which tensors a model of an architecture has, and what else its folder may hold. No torch.
#pragma once

#include <string>

#include "checkpoints/safetensors.h"
#include "worker/model/architecture.h"

namespace svfleet {

// The tensors of the embedding and of the head. They are one under tied embeddings, and then the
// folder may hold it under either name.
struct EmbeddingNames {
  std::string embedding, head;
};
EmbeddingNames embedding_names(const SafetensorsFolder& files, const Architecture& arch);

// Error(kExitUser) for a tensor that no part of the model reads, since the folder is then of
// another model than config.json says, and for a head of its own under tied embeddings. Passed over
// are RoPE's inv_freq, whole numbers and truth values, and a head that equals the embedding.
void check_tensors(const SafetensorsFolder& files, const Architecture& arch);

}  // namespace svfleet
