// Whether this is a build with sanitizers, where a test that only repeats itself takes minutes:
// there it may look at less of the same.
#pragma once

namespace svfleet {

#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace svfleet
