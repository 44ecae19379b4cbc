#include "comm/reducer.h"

namespace svfleet {
namespace {

class HostReducer : public Reducer {
 public:
  explicit HostReducer(Group& group) : group_(group) {}
  void sum(std::span<int64_t> values, std::string_view op) override {
    group_.all_reduce_sum(values, op);
  }

 private:
  Group& group_;
};

}  // namespace

std::unique_ptr<Reducer> make_host_reducer(Group& group) {
  return std::make_unique<HostReducer>(group);
}

}  // namespace svfleet
