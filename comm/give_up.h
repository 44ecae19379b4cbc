// How a process ends that may be stuck: without a lock, a disk or a library that could be stuck
// too.
#pragma once

#include <string_view>

namespace svfleet {

// Ends this process with `code` within 5 s, after an attempt to write `line` (a newline is added)
// to standard error. A standard error that hangs, as on a disk that is away, costs the line and not
// the end. No handler of exit runs, nothing is flushed. Any thread.
[[noreturn]] void give_up(std::string_view line, int code);

// Keeps the code of give_up in memory: the program itself may lie on the disk that hangs.
void prepare_to_give_up();

}  // namespace svfleet
