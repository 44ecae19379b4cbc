#include "rl/item_json.h"

#include <vector>

#include "comm/error.h"
#include "rl/ascii.h"

namespace svfleet {
namespace {

using nlohmann::json;

// The digits that matter: without sign, dot, exponent and the zeros at both ends.
std::string significant(std::string_view number) {
  std::string digits;
  for (const char c : number.substr(0, number.find_first_of("eE")))
    if (is_digit(c) && !(c == '0' && digits.empty())) digits += c;
  while (!digits.empty() && digits.back() == '0') digits.pop_back();
  return digits;
}

// Builds the value as nlohmann's own parser does, but sees each number as it is written.
class ItemBuilder : public nlohmann::json_sax<json> {
 public:
  explicit ItemBuilder(const std::string& where) : where_(where) {}

  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& text) override {
    if (significant(json(value).dump()) != significant(text)) return add(text);
    return add(value);
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(json::object()); }
  bool key(string_t& name) override {
    if (open_.back()->contains(name))
      throw user_error(where_, ": the field '", name, "' is there twice; remove one");
    key_ = name;
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool parse_error(size_t byte, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    constexpr int kOverflow = 406;
    if (error.id == kOverflow)
      throw user_error(where_, ": the number ", token.substr(0, 40), " at byte ", byte,
                       " is too large; write it as a text, in quotes");
    // "[json.exception.parse_error.101] parse error at line 1, column 9: reason"
    const std::string text = error.what();
    const size_t reason = text.find(": ");
    throw user_error(where_, ": not valid JSON (UTF-8) at byte ", byte, ": ",
                     reason == std::string::npos ? text : text.substr(reason + 2),
                     "; each line is one item such as {\"question\": \"...\"}");
  }

 private:
  json& place(json value) {
    if (open_.empty()) return root_ = std::move(value);
    json& parent = *open_.back();
    if (parent.is_object()) return parent[key_] = std::move(value);
    parent.push_back(std::move(value));
    return parent.back();
  }
  bool add(json value) {
    place(std::move(value));
    return true;
  }
  // What is open does not move: only the innermost value grows.
  bool open(json value) {
    open_.push_back(&place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& where_;
  json root_;
  std::vector<json*> open_;
  std::string key_;
};

}  // namespace

json parse_item(std::string_view line, const std::string& where) {
  ItemBuilder builder(where);
  json::sax_parse(line, &builder);
  json fields = builder.take();
  if (!fields.is_object())
    throw user_error(where, ": not a JSON object but ", fields.type_name(),
                     "; each line is one item such as {\"question\": \"...\"}");
  return fields;
}

}  // namespace svfleet
