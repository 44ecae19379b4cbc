// A claim on a name: whoever has `path`.claim, made with O_EXCL, may look at `path` and then put
// something there, and nobody else does in between. Held for milliseconds.
#pragma once

#include <string>

namespace svfleet {

class Claim {
 public:
  // Waits while another process or thread has it. A claim whose process is gone from this machine
  // is succeeded at once, one of another machine when it has stood for `patience_s`.
  // Error(kExitDisk) naming the file when one has not changed for three times that.
  explicit Claim(const std::string& path, double patience_s = 60);
  ~Claim();  // gives it back
  Claim(const Claim&) = delete;

  // Error(kExitRequeue) when it was succeeded, because this process had stood still for too long.
  // Call it last before the change.
  void verify() const;

 private:
  std::string file_, mark_;
};

}  // namespace svfleet
