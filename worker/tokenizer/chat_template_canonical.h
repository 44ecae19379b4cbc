// The meaning of a Jinja template without its spelling, for recognising it.
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

// Two templates with equal results render alike: white space inside tags, kinds of quotes,
// comments, white-space control and m['role'] for m.role are evened out, nothing else. As
// transformers sets Jinja up: trim_blocks, lstrip_blocks, no trailing newline.
std::string canonical_template(std::string_view text);

}  // namespace svfleet
