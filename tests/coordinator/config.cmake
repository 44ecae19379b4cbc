svfleet_test(NAME coordinator_config SOURCES config_test.cc config_errors_test.cc config_command_line_test.cc LIBS
                 svfleet_config nlohmann_json::nlohmann_json LABELS fast)
