# Tokenizer, chat templates and stop strings: no torch.
find_path(PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
add_library(svfleet_tokenizer STATIC
  bpe.cc
  chat_template.cc
  chat_template_canonical.cc
  pretokenize.cc
  pretokenize_onig.cc
  pretokenize_regex.cc
  stop_strings.cc
  tokenizer.cc
  tokenizer_added.cc
  tokenizer_decode.cc
  tokenizer_json.cc
  tokenizer_normalize.cc
  tokenizer_post.cc
  tokenizer_stream.cc
  unicode.cc
  unicode_newer.cc)
target_include_directories(svfleet_tokenizer PRIVATE ${UTF8PROC_INCLUDE_DIR} ${PCRE2_INCLUDE_DIR})
target_link_libraries(svfleet_tokenizer
  PRIVATE ${UTF8PROC_LIBRARY} ${PCRE2_LIBRARY}
  PUBLIC svfleet_checkpoints nlohmann_json::nlohmann_json)
