// What a gate does to its input before it multiplies.
#pragma once

namespace svfleet {

enum class Activation {
  kSilu,      // g / (1 + exp(-g))
  kGeluTanh,  // g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) / 2
};

}  // namespace svfleet
