# Configuration, command line, progress, logs and identity: no torch.
add_library(svfleet_config STATIC
  account.cc
  command_line.cc
  config.cc
  config_checks.cc
  config_fields.cc
  config_print.cc
  config_reader.cc
  config_tasks.cc
  identity.cc
  job_options.cc
  json_line.cc
  ledger.cc
  log_index.cc
  progress.cc
  pulse.cc
  run_file.cc
  run_log.cc
  stop_request.cc
  stragglers.cc
)
target_compile_definitions(svfleet_config PRIVATE SVFLEET_VERSION="${PROJECT_VERSION}")
target_link_libraries(svfleet_config PUBLIC svfleet_checkpoints svfleet_rl svfleet_tokenizer
  nlohmann_json::nlohmann_json
  spdlog::spdlog Threads::Threads PRIVATE yaml-cpp CLI11::CLI11)
