// Start here: signals that ask a run to stop set a flag and do nothing else.
#pragma once

#include <string>

namespace svfleet {

// SIGTERM, SIGUSR1, SIGINT, SIGHUP (a closed ssh) and SIGPIPE (nobody reads our output any more)
// set the flag; a second SIGINT ends the process at once, after its last words, as if it had not
// been caught. SIGHUP and SIGPIPE that were ignored when the program began (nohup) stay so. Signals
// that whoever started us has blocked are let in. Call once, before threads are started.
void install_signal_handlers();

// For what has no place to stop: SIGTERM, SIGINT and SIGHUP end the process as if not caught, after
// its last words.
void end_at_signals();

// One line for standard error when a signal ends the process at once: what of its work is kept. The
// last ones given count; "" says nothing. For the main thread.
void set_last_words(const std::string& line);

// Whether one came. Any thread.
bool stop_requested();
// The first signal that came ("SIGTERM"), or "". For messages only.
const char* stop_signal_name();
// Sets the flag from inside the program.
void request_stop();

}  // namespace svfleet
