#include "coordinator/sharing/transfer.h"

#include <algorithm>

#include "comm/error.h"

namespace svfleet {

std::vector<Target> fitting_targets(const NamedZ& z, const Architecture& architecture,
                                    const std::string& expert, const std::string& model) {
  std::vector<Target> fitting;
  for (Target target :
       choose_targets({"all"}, "all", architecture.layers, architecture.linear_shapes())) {
    const auto of = z.find(target.name);
    if (of == z.end() || int64_t(of->second.size()) != target.length()) continue;
    target.offset = total_length(fitting);
    fitting.push_back(target);
  }
  if (fitting.size() == z.size()) return fitting;
  constexpr size_t kNamed = 3;
  std::string names;
  size_t others = 0;
  for (const auto& [name, values] : z) {
    if (std::any_of(fitting.begin(), fitting.end(),
                    [&](const Target& target) { return target.name == name; }))
      continue;
    if (++others <= kNamed)
      names += (names.empty() ? "'" : ", '") + name + "' with " + std::to_string(values.size()) +
               " scales";
  }
  if (others > kNamed) names += " and " + std::to_string(others - kNamed) + " more";
  throw user_error("the expert '", expert, "' does not fit the model at '", model, "', which has ",
                   "no such matrix, or one of another size: ", names,
                   "; transfer to a model of the same shapes");
}

}  // namespace svfleet
