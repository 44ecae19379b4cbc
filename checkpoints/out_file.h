// A file that a user has named for results. Until they are complete it stays as it is.
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

class OutFile {
 public:
  // Looks whether `path` can be written, and changes nothing. Error(kExitUser) where it cannot; a
  // pipe that nobody reads is waited with for ten seconds.
  explicit OutFile(const std::string& path);
  ~OutFile();
  OutFile(const OutFile&) = delete;

  // All of it, once. A file is replaced by a rename and keeps its permissions; behind a symbolic
  // link it is the file that is replaced, not the link. A device, a pipe, and what /proc leads to
  // are written to.
  void write(std::string_view bytes);

 private:
  std::string path_;  // without links
  int fd_ = -1;       // open where nothing is to be renamed
  int mode_ = -1;     // permissions of the file that is there
};

}  // namespace svfleet
