// A check of an option's value, for the files here that add options.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace svfleet {

// In words of ours: CLI11's own list every value as a type.
CLI::Validator any_of_these(std::vector<std::string> values);

}  // namespace svfleet
