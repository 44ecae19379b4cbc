svfleet_test(NAME worker_tokenizer
  SOURCES tokenizer_parity_test.cc tokenizer_unicode_test.cc tokenizer_refusal_test.cc
    tokenizer_stream_test.cc tokenizer_fuzz_test.cc
  LIBS svfleet_tokenizer ${PCRE2_LIBRARY} LABELS sanitize)
svfleet_test(NAME worker_chat_template SOURCES chat_template_test.cc LIBS svfleet_tokenizer
  LABELS sanitize)
