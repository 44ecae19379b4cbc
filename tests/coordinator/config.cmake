svfleet_test(NAME coordinator_config SOURCES config_test.cc config_errors_test.cc
  config_command_line_test.cc config_identity_test.cc LIBS svfleet_config LABELS sanitize)
svfleet_test(NAME coordinator_progress SOURCES progress_test.cc LIBS svfleet_config LABELS sanitize)
svfleet_test(NAME coordinator_run_log SOURCES run_log_test.cc LIBS svfleet_config LABELS sanitize)
svfleet_test(NAME coordinator_pulse SOURCES pulse_test.cc LIBS svfleet_config LABELS sanitize)
svfleet_test(NAME coordinator_ledger SOURCES ledger_test.cc LIBS svfleet_config LABELS sanitize)
