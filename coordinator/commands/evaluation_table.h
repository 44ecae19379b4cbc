// What `svfleet evaluate` found, for people: the layout that scripts/compare.py has too (a test
// compares them).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace svfleet {

// Of the object that --json prints; docs/formats.md.
std::string evaluation_table(const nlohmann::json& evaluation);

}  // namespace svfleet
