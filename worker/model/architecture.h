// What config.json and generation_config.json say of a decoder: its sizes, and the flags of its
// family that the decoder reads. No torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "svd/target.h"
#include "worker/kernels/activation.h"

namespace svfleet {

// How positions beyond those that a model was first trained on get their angles.
enum class RopeKind { kDefault, kLinear, kDynamic, kYarn, kLlama3, kLongRope };

struct RopeScaling {
  RopeKind kind = RopeKind::kDefault;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_position = 8192;
  double beta_fast = 32, beta_slow = 1;  // YaRN: turns between which factors are interpolated
  bool truncate = true;                  // YaRN: these as whole dimensions
  double magnitude = 1;                  // of cosines and sines: YaRN, LongRoPE
  int64_t length = 0;                    // dynamic: the tokens that its base is chosen for
  std::vector<double> divisors;          // LongRoPE [rotary_dim / 2]: short ones, or long ones
  bool operator==(const RopeScaling&) const = default;
};

// Where a layer's norms stand: before attention and MLP (Llama), before and behind each (Gemma), or
// behind each alone (OLMo 2).
enum class NormPlace { kBefore, kAround, kBehind };
// Norms of queries and keys before they are turned: none, each head's, or over all heads at once.
enum class QkNorm { kNone, kPerHead, kWhole };

// What differs between the layers of a model.
struct LayerTraits {
  int64_t window = 0;         // tokens that attention sees, its own included; 0: all before it
  bool rotary = true;         // SmolLM3: some layers know of no positions
  bool local_angles = false;  // Gemma 3: angles of local_rope_theta
  bool operator==(const LayerTraits&) const = default;
};

struct Architecture {
  std::string model_type;  // a row of families()
  int layers = 0;
  int64_t hidden = 0, intermediate = 0, vocabulary = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  double rms_epsilon = 1e-5;
  double rope_theta = 10000;
  RopeScaling rope;
  bool tied_embeddings = false;
  bool qkv_bias = false;       // of q, k and v
  int64_t max_positions = 0;   // as config.json has it; 0: it has none
  int64_t longest = 0;         // tokens of prompt and reply that may be computed; 0: no limit
  int64_t sliding_window = 0;  // of the layers that have one; 0: none has
  std::vector<int> stop_tokens;
  std::string stops_from;  // the file that names them

  // Flags of the family. What Llama has is the default.
  NormPlace norm_place = NormPlace::kBefore;
  bool norm_adds_one = false;     // the weight is 1 + w
  bool norm_rounds_once = false;  // x s w in wide numbers, then rounded; else x s is rounded, too
  QkNorm qk_norm = QkNorm::kNone;
  Activation activation = Activation::kSilu;
  double attention_scale = 0;  // what q.k is multiplied by
  double attention_cap = 0;    // soft cap of scores; 0: none
  double logit_cap = 0;        // soft cap of logits; 0: none
  double logit_divisor = 1;
  double embedding_scale = 1;
  bool embedding_scale_rounded = false;  // to the model's type, before it multiplies
  double residual_scale = 1;             // of what attention and MLP add
  int64_t rotary_dim = 0;                // the first numbers of a head that are turned
  double local_rope_theta = 0;           // 0: no layer has angles of its own
  bool output_bias = false;              // of o, beside qkv_bias
  bool mlp_bias = false;
  bool fused = false;       // q, k and v are slices of one tensor, and so are gate and up
  bool multimodal = false;  // the text part of a folder that has vision, too
  std::vector<LayerTraits> layer_traits;  // [layers]

  bool has_qk_norm() const { return qk_norm != QkNorm::kNone; }
  bool has_norm_before() const { return norm_place != NormPlace::kBehind; }
  bool has_norm_behind() const { return norm_place != NormPlace::kBefore; }

  // Hash of every field but stops_from and longest: what the folder's JSON files make of the
  // weights.
  std::string content_hash() const;
  // The same hash but for the stop tokens, a blank, and the file that names these: where two
  // folders differ, it says in which file.
  std::string shape() const;
  // Rows and columns of the seven linear kinds, in forward order.
  std::vector<MatrixShape> linear_shapes() const;
};

// Error(kExitUser) when there is no such folder; knows the names of the Hugging Face Hub.
void check_model_folder(const std::string& folder);

// `max_length`: the longest sequence, prompt and reply, that will be computed, 0 for what the model
// was first trained on; angles that depend on a length (dynamic, LongRoPE) are chosen for it, once.
// Error(kExitUser) names the file and the field that is missing or not supported.
Architecture read_architecture(const std::string& folder, int64_t max_length = 0);

}  // namespace svfleet
