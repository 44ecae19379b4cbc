// Control characters that nobody means in a prompt: what becomes of LaTeX when YAML or JSON reads
// its backslashes, "\boxed" as U+0008 and "oxed".
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

enum class WrittenIn { kYaml, kJson };

// Empty when there is none; else what is there, with the way to write it, as
// "holds the control character U+0008 before 'oxed{x}': ...". Tabs and line ends are text, except
// where they make \times, \text{, \theta, \right and their like. JSON may write others as \u....
std::string control_problem(std::string_view text, WrittenIn written_in);

}  // namespace svfleet
