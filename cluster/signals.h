// Start here: signals that ask a run to stop set a flag and do nothing else.
#pragma once

namespace svfleet {

// SIGTERM, SIGUSR1 and SIGINT set the flag; a second SIGINT ends the process at once, as if it had
// not been caught. Call once, before threads are started.
void install_signal_handlers();

// Whether one came. Any thread.
bool stop_requested();
// The first signal that came ("SIGTERM"), or "". For messages only.
const char* stop_signal_name();
// Sets the flag from inside the program.
void request_stop();

}  // namespace svfleet
