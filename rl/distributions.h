// Tails of the normal and of Student's t distribution.
#pragma once

namespace svfleet {

// P(N(0,1) <= x).
double normal_share(double x);
// x with P(|N(0,1)| <= x) = confidence.
double normal_quantile(double confidence);

// P(|T| > t) of Student's t; 0 < degrees.
double t_tail(double t, double degrees);
// t with P(|T| > t) = tail.
double t_quantile(double tail, double degrees);

}  // namespace svfleet
