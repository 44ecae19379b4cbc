// How much of a change of weights is lost where it is expressed in another way.
#pragma once

#include <cmath>

namespace svfleet {

struct ChangeLoss {
  double norm2 = 0;  // |Delta W|_F^2, over matrices
  double lost2 = 0;  // of it, what is lost

  void add(double norm2_more, double lost2_more) { norm2 += norm2_more, lost2 += lost2_more; }
  // |Delta W - Delta W'| / |Delta W|, Frobenius.
  double share() const { return norm2 > 0 ? std::sqrt(lost2 / norm2) : 0; }
};

}  // namespace svfleet
