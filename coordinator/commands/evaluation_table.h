// What `svfleet evaluate` found, for people: the layout that scripts/compare.py has too (a test
// compares them).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace svfleet {

// Of the object that --json prints; docs/formats.md.
std::string evaluation_table(const nlohmann::json& evaluation);

// The one line that says so where controls of an expert are as good as it is.
std::string reached_text(const nlohmann::json& controls, const std::string& expert);

}  // namespace svfleet
