// The templates of a task, filled with the fields of an item.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "rl/task.h"

namespace svfleet {

// One item of a file, with what its templates and errors need.
struct Row {
  nlohmann::json fields;
  std::string where;  // file:line
  Gold gold;
  std::string question;  // the filled prompt
};

class ItemTemplate {
 public:
  // `what` and `place` (where it was written, may be empty) are for errors. `gold_answer`: {answer}
  // is the gold, whatever the field is called.
  ItemTemplate(std::string text, const std::string& what, const std::string& place,
               bool gold_answer);

  // Error(kExitUser) for a name that is no field of the item.
  std::string fill(const Row& row);
  // Error(kExitUser) when no field stood in it, which makes one text of all items of `path`.
  void check_used(int64_t items, const std::string& path) const;
  const std::string& what() const { return what_; }

 private:
  void refuse_double_braces(const Row& row) const;
  [[noreturn]] void refuse_name(const std::string& name, const Row& row) const;

  const std::string text_, what_;
  const bool gold_answer_;
  bool used_ = false;  // a field stands in it
};

}  // namespace svfleet
