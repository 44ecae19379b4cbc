// A folder that a user has named for results: there as a whole, or not at all.
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

class OutFolder {
 public:
  // Makes an empty folder under a temporary name beside `path`. Error(kExitUser) where something
  // is at `path`, other than an empty folder.
  explicit OutFolder(const std::string& path);
  ~OutFolder();  // removes it where it was not published
  OutFolder(const OutFolder&) = delete;

  // Where a file of this name is to be written until then.
  std::string file(const std::string& name) const { return temporary_ + "/" + name; }
  void write(const std::string& name, std::string_view bytes) const;
  // Gives the folder its name, synced. Error(kExitUser) where another has taken it meanwhile.
  void publish();

 private:
  std::string path_, temporary_;
  bool published_ = false;
};

}  // namespace svfleet
