#include "worker/tokenizer/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>

#include "checkpoints/hash.h"
#include "checkpoints/lfs_pointer.h"
#include "comm/error.h"
#include "worker/tokenizer/added.h"
#include "worker/tokenizer/bpe.h"
#include "worker/tokenizer/decode.h"
#include "worker/tokenizer/normalize.h"
#include "worker/tokenizer/post.h"
#include "worker/tokenizer/pretokenize.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

std::string read_file(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    throw user_error("there is no file '", path,
                     "'; model.path should be a Hugging Face folder with a tokenizer.json");
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file || !bytes) throw disk_error("cannot read '", path, "'; check its permissions");
  std::string text = std::move(bytes).str();
  refuse_lfs_pointer(path, text);
  return text;
}

// tokenizer_config.json; empty where there is none.
Json read_config(const std::string& path, std::string* bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return Json::object();
  *bytes = read_file(path);
  Json config = Json::parse(*bytes, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object())
    throw user_error("'", path, "' is not a JSON object; get the file again");
  return config;
}

}  // namespace

struct Tokenizer::Impl {
  Normalizer normalizer;
  Bpe bpe;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Decoder decoder;
  std::string hash;
  std::string disagreement;

  const std::string* token(int id) const {
    const auto* found = added.token(id);
    return found ? found : bpe.token(id);
  }

  // add_bos_token and add_eos_token of the configuration against the post-processor.
  std::string compare(const JsonAt& config) const {
    const auto differs = [&](const char* flag, const char* key, const std::vector<int>& ids) {
      if (!config.has(flag) || !config.has(key)) return false;
      const auto id = added.id_of(AddedTokens::content_of(config.at(key)));
      const bool there = id && std::find(ids.begin(), ids.end(), *id) != ids.end();
      return config.flag(flag, there) != there;
    };
    for (const auto& [flag, key, ids] :
         {std::tuple("add_bos_token", "bos_token", &post_processor.before),
          std::tuple("add_eos_token", "eos_token", &post_processor.after)})
      if (differs(flag, key, *ids))
        return config.where + " has " + flag + ": " +
               (config.flag(flag, false) ? "true" : "false") +
               ", but the post_processor of tokenizer.json does otherwise";
    return "";
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  const std::string bytes = read_file(path);
  Json json;
  try {
    json = Json::parse(bytes);
  } catch (const Json::exception& e) {
    throw user_error("'", path, "' is not valid JSON: ", e.what(), "; get the file again");
  }
  const JsonAt root{json, "'" + path + "'"};
  root.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
             "post_processor", "decoder", "model"});
  // Truncation and padding are left aside: transformers resets both on every call.
  static const Json kNull;
  const auto part = [&](const char* key) {
    return root.has(key) ? root.at(key) : JsonAt{kNull, root.where + "." + key};
  };
  auto impl = std::make_unique<Impl>();
  impl->normalizer = Normalizer::read(part("normalizer"));
  impl->bpe = Bpe::read(root.at("model"));
  const std::string config_path = folder + "/tokenizer_config.json";
  std::string config_bytes;
  const Json config = read_config(config_path, &config_bytes);
  bool more = false;  // tokens of the configuration
  impl->added = AddedTokens::read(part("added_tokens"), {config, "'" + config_path + "'"},
                                  impl->bpe, impl->normalizer, &more);
  impl->pre_tokenizer = PreTokenizer::read(part("pre_tokenizer"));
  impl->post_processor = PostProcessor::read(part("post_processor"));
  impl->decoder = Decoder::read(part("decoder"));
  impl->disagreement = impl->compare({config, "'" + config_path + "'"});
  impl->hash = hash_bytes(more ? bytes + config_bytes : bytes);
  return Tokenizer(std::move(impl));
}

std::vector<int> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int> ids;
  if (add_special_tokens) ids = impl_->post_processor.before;
  for (auto& part : impl_->added.split(valid_utf8(text), impl_->normalizer)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    for (const auto& word : impl_->pre_tokenizer.split(std::move(part.text), part.at_start))
      impl_->bpe.encode(word, ids);
  }
  if (add_special_tokens)
    ids.insert(ids.end(), impl_->post_processor.after.begin(), impl_->post_processor.after.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int id : ids) {
    const auto* token = impl_->token(id);
    if (token && !(skip_special_tokens && impl_->added.is_special(*token)))
      tokens.push_back(*token);
  }
  return impl_->decoder.decode(std::move(tokens));
}

std::optional<int> Tokenizer::id_of(std::string_view token) const {
  const auto id = impl_->added.id_of(token);
  return id ? id : impl_->bpe.id_of(token);
}

std::string Tokenizer::token(int id) const {
  const auto* token = impl_->token(id);
  SVFLEET_CHECK(token, "no token has id ", id, "; there are ", size());
  return *token;
}

bool Tokenizer::is_special(int id) const {
  const auto* token = impl_->token(id);
  return token && impl_->added.is_special(*token);
}

const std::string& Tokenizer::disagreement() const {
  return impl_->disagreement;
}

int Tokenizer::size() const {
  return std::max(impl_->bpe.highest_id(), impl_->added.highest_id()) + 1;
}

std::string Tokenizer::content_hash() const {
  return impl_->hash;
}

}  // namespace svfleet
