#include "checkpoints/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <unordered_map>

#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/hash.h"
#include "checkpoints/lfs_pointer.h"
#include "comm/error.h"

namespace svfleet {

using nlohmann::json;

namespace {

constexpr uint64_t kLargestHeader = 100'000'000;  // the limit of Hugging Face's own reader

[[noreturn]] void damaged(const std::string& path, const std::string& why) {
  throw disk_error("'", path, "' is damaged: ", why, "; copy or download it again");
}

// nlohmann keeps the last of two equal keys; a header that has them is not to be trusted.
json parse_header(const std::string& path, std::string_view text) {
  std::vector<std::set<std::string>> keys;
  std::string twice;
  auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      twice = value.get<std::string>();
    return true;
  };
  json header = json::parse(text, watch, false);
  if (header.is_discarded() || !header.is_object())
    damaged(path, "its header is not a JSON object");
  if (!twice.empty()) damaged(path, "its header has '" + twice + "' twice");
  return header;
}

struct ElementType {
  const char* name;
  TensorType type;
  uint64_t bytes;
};
constexpr ElementType kElementTypes[] = {
    {"F32", TensorType::kF32, 4},       {"BF16", TensorType::kBF16, 2},
    {"F16", TensorType::kF16, 2},       {"F64", TensorType::kF64, 8},
    {"BOOL", TensorType::kOther, 1},    {"U8", TensorType::kOther, 1},
    {"I8", TensorType::kOther, 1},      {"F8_E4M3", TensorType::kOther, 1},
    {"F8_E5M2", TensorType::kOther, 1}, {"F8_E8M0", TensorType::kOther, 1},
    {"U16", TensorType::kOther, 2},     {"I16", TensorType::kOther, 2},
    {"U32", TensorType::kOther, 4},     {"I32", TensorType::kOther, 4},
    {"U64", TensorType::kOther, 8},     {"I64", TensorType::kOther, 8},
};

const ElementType& element_type(const std::string& path, const std::string& tensor,
                                const json& dtype) {
  if (!dtype.is_string()) damaged(path, "tensor '" + tensor + "' has no dtype");
  for (const ElementType& one : kElementTypes)
    if (dtype == one.name) return one;
  throw user_error("tensor '", tensor, "' in '", path, "' has type ", dtype.get<std::string>(),
                   "; only F32, BF16, F16 and F64 can be read");
}

// One mapped file, its header checked against its length.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) : path_(path) {
    map();
    try {
      parse();
    } catch (...) {
      munmap(const_cast<std::byte*>(bytes_), size_);
      throw;
    }
  }
  ~MappedFile() { munmap(const_cast<std::byte*>(bytes_), size_); }
  MappedFile(const MappedFile&) = delete;

  // Unchanged pages of a file: reading them again brings the same bytes.
  void forget_pages() const { madvise(const_cast<std::byte*>(bytes_), size_, MADV_DONTNEED); }

  const std::string& path() const { return path_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<TensorView>& tensors() const { return tensors_; }  // by place in the file
  std::string fingerprint() const {
    Hasher hasher;
    hasher.text(path_.substr(path_.rfind('/') + 1)).number(static_cast<int64_t>(size_));
    hasher.number(modified_s_).number(modified_ns_).text(header_);
    return hasher.hex();
  }

 private:
  void map() {
    const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) read_failed(path_, errno);
    struct stat info;
    if (fstat(fd, &info) != 0) {
      const int error = errno;
      ::close(fd);
      read_failed(path_, error);
    }
    size_ = S_ISREG(info.st_mode) ? static_cast<size_t>(info.st_size) : 0;
    if (size_ < 8) {
      ::close(fd);
      damaged(path_, "it has only " + std::to_string(size_) + " bytes");
    }
    modified_s_ = info.st_mtim.tv_sec;
    modified_ns_ = info.st_mtim.tv_nsec;
    void* map = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const std::string why = map == MAP_FAILED ? std::generic_category().message(errno) : "";
    ::close(fd);
    if (map == MAP_FAILED) throw disk_error("cannot map '", path_, "' into memory: ", why);
    bytes_ = static_cast<const std::byte*>(map);
  }

  void parse() {
    uint64_t length;
    std::memcpy(&length, bytes_, sizeof length);
    refuse_lfs_pointer(path_,
                       {reinterpret_cast<const char*>(bytes_), std::min(size_, size_t{200})});
    if (length > size_ - 8 || length > kLargestHeader)
      damaged(path_, "its header should have " + std::to_string(length) + " bytes, the file has " +
                         std::to_string(size_));
    header_ = std::string_view(reinterpret_cast<const char*>(bytes_) + 8, length);
    const json header = parse_header(path_, header_);
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__")
        read_metadata(value);
      else
        add(name, value, 8 + length);
    }
    check_layout(8 + length);
  }

  void read_metadata(const json& value) {
    if (!value.is_object()) damaged(path_, "its metadata is not a JSON object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) damaged(path_, "its metadata '" + key + "' is not text");
      metadata_[key] = text.get<std::string>();
    }
  }

  void add(const std::string& name, const json& value, size_t data_start) {
    const std::string tensor = "tensor '" + name + "'";
    if (!value.is_object()) damaged(path_, tensor + " is not described by an object");
    TensorView view;
    view.name = name;
    const ElementType& element = element_type(path_, name, value.value("dtype", json()));
    view.type = element.type;
    view.dtype = element.name;
    const json shape = value.value("shape", json());
    const json offsets = value.value("data_offsets", json());
    auto is_size = [](const json& v) { return v.is_number_unsigned(); };
    if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), is_size))
      damaged(path_, tensor + " has no valid shape");
    if (!offsets.is_array() || offsets.size() != 2 || !is_size(offsets[0]) || !is_size(offsets[1]))
      damaged(path_, tensor + " has no valid data_offsets");
    const uint64_t begin = offsets[0], end = offsets[1], available = size_ - data_start;
    if (begin > end || end > available)
      damaged(path_, tensor + " should be at bytes " + std::to_string(begin) + " to " +
                         std::to_string(end) + ", but the file has " + std::to_string(available) +
                         " bytes of data");
    uint64_t bytes = element.bytes;
    for (const json& size : shape) {
      if (__builtin_mul_overflow(bytes, size.get<uint64_t>(), &bytes) || bytes > INT64_MAX)
        damaged(path_, tensor + " has an impossible shape");
      view.shape.push_back(size.get<int64_t>());
    }
    if (bytes != end - begin)
      damaged(path_, tensor + " has " + std::to_string(end - begin) + " bytes, its shape needs " +
                         std::to_string(bytes));
    view.data = bytes_ + data_start + begin;
    view.bytes = bytes;
    tensors_.push_back(std::move(view));
  }

  // The format wants the tensors to fill the data without a gap.
  void check_layout(size_t data_start) {
    std::sort(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) {
      return std::make_pair(a.data, a.bytes) < std::make_pair(b.data, b.bytes);
    });
    const std::byte* at = bytes_ + data_start;
    for (const TensorView& view : tensors_) {
      if (view.data < at) damaged(path_, "tensor '" + view.name + "' overlaps another");
      if (view.data > at) damaged(path_, "there is a gap before tensor '" + view.name + "'");
      at += view.bytes;
    }
    const auto extra = bytes_ + size_ - at;
    if (extra != 0)
      damaged(path_, "it is " + std::to_string(extra) + " bytes longer than its header says");
  }

  std::string path_;
  const std::byte* bytes_ = nullptr;
  size_t size_ = 0;
  int64_t modified_s_ = 0, modified_ns_ = 0;
  std::string_view header_;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorView> tensors_;
};

}  // namespace

struct SafetensorsFolder::Impl {
  std::string path;
  std::vector<std::unique_ptr<MappedFile>> files;  // sorted by name
  std::unordered_map<std::string, const TensorView*> views;
  std::vector<std::string> names;
  std::deque<TensorView> other_names;  // which stay where they are

  void open_single(const std::string& file) {
    files.push_back(std::make_unique<MappedFile>(file));
    for (const TensorView& view : files[0]->tensors()) views[view.name] = &view;
  }

  void open_sharded(const std::string& index_path) {
    const std::string bytes = read_file(index_path);
    refuse_lfs_pointer(index_path, bytes);
    const json index = json::parse(bytes, nullptr, false);
    const json map = index.is_object() ? index.value("weight_map", json()) : json();
    if (!map.is_object() || map.empty()) damaged(index_path, "it has no weight_map");
    std::map<std::string, std::vector<std::string>> shards;
    for (const auto& [tensor, file] : map.items()) {
      if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos)
        damaged(index_path, "tensor '" + tensor + "' is not in a file of this folder");
      shards[file.get<std::string>()].push_back(tensor);
    }
    for (const auto& [file, tensors] : shards) {
      files.push_back(std::make_unique<MappedFile>(path + "/" + file));
      std::unordered_map<std::string, const TensorView*> here;
      for (const TensorView& view : files.back()->tensors()) here[view.name] = &view;
      for (const std::string& tensor : tensors) {
        const auto found = here.find(tensor);
        if (found == here.end())
          damaged(files.back()->path(),
                  "tensor '" + tensor + "', which '" + index_path + "' places there, is missing");
        views[tensor] = found->second;
      }
    }
  }
};

SafetensorsFolder::SafetensorsFolder(const std::string& folder) : impl_(std::make_unique<Impl>()) {
  impl_->path = folder;
  const std::string single = folder + "/model.safetensors";
  const std::string index = folder + "/model.safetensors.index.json";
  // Of this machine: it may be there on others.
  if (!file_exists(folder))
    throw node_error(kExitUser, "there is no model at '", folder, "'; check the path");
  if (!is_folder(folder))
    impl_->open_single(folder);
  else if (file_exists(single))
    impl_->open_single(single);
  else if (file_exists(index))
    impl_->open_sharded(index);
  else
    throw node_error(kExitUser, "'", folder, "' has neither model.safetensors nor ",
                     "model.safetensors.index.json; give the folder of a Hugging Face model");
  for (const auto& [name, view] : impl_->views) impl_->names.push_back(name);
  std::sort(impl_->names.begin(), impl_->names.end());
}
SafetensorsFolder::~SafetensorsFolder() = default;
SafetensorsFolder::SafetensorsFolder(SafetensorsFolder&&) noexcept = default;

void SafetensorsFolder::also_call(const std::string& name, const std::string& of, int64_t first,
                                  int64_t rows) {
  TensorView view = at(of);
  view.name = name;
  if (rows >= 0) {
    if (view.shape.empty() || first + rows > view.shape[0])
      throw user_error("tensor '", of, "' has ", view.shape.empty() ? 0 : view.shape[0],
                       " rows, but config.json makes it at least ", first + rows,
                       "; the model folder's files do not belong together");
    const size_t row = view.shape[0] ? view.bytes / size_t(view.shape[0]) : 0;
    view.data += size_t(first) * row;
    view.bytes = size_t(rows) * row;
    view.shape[0] = rows;
  }
  impl_->views[name] = &impl_->other_names.emplace_back(std::move(view));
}

const std::vector<std::string>& SafetensorsFolder::names() const {
  return impl_->names;
}

void SafetensorsFolder::forget_pages() const {
  for (const auto& file : impl_->files) file->forget_pages();
}

bool SafetensorsFolder::has(const std::string& name) const {
  return impl_->views.contains(name);
}

const TensorView& SafetensorsFolder::at(const std::string& name) const {
  const auto found = impl_->views.find(name);
  if (found == impl_->views.end())
    throw user_error("the model at '", impl_->path, "' has no tensor '", name,
                     "', which config.json asks for; copy or download the folder again");
  return *found->second;
}

std::string SafetensorsFolder::tensor_hash(const std::string& name) const {
  const TensorView& view = at(name);
  Hasher hasher;
  hasher.text(view.dtype).number(static_cast<int64_t>(view.shape.size()));
  for (int64_t size : view.shape) hasher.number(size);
  return hasher.raw(view.data, view.bytes).hex();
}

std::string SafetensorsFolder::quick_fingerprint() const {
  Hasher hasher;
  for (const auto& file : impl_->files) hasher.text(file->fingerprint());
  return hasher.hex();
}

std::string SafetensorsFolder::content_hash() const {
  Hasher hasher;
  for (const std::string& name : names()) hasher.text(name).text(tensor_hash(name));
  return hasher.hex();
}

std::vector<SafetensorsFolder::File> SafetensorsFolder::files() const {
  std::vector<File> all;
  for (const auto& file : impl_->files)
    all.push_back(
        {file->path().substr(file->path().rfind('/') + 1), file->metadata(), file->tensors()});
  return all;
}

SafetensorsData read_safetensors(const std::string& path) {
  const MappedFile file(path);
  SafetensorsData data;
  data.metadata = file.metadata();
  for (const TensorView& view : file.tensors()) {
    if (view.type != TensorType::kF32)
      throw user_error("tensor '", view.name, "' in '", path, "' has type ", view.dtype,
                       "; F32 is needed here");
    std::vector<float> values(view.bytes / sizeof(float));
    if (view.bytes > 0) std::memcpy(values.data(), view.data, view.bytes);
    data.tensors[view.name] = {view.shape, std::move(values)};
  }
  return data;
}

std::map<std::string, std::string> read_safetensors_metadata(const std::string& path) {
  return MappedFile(path).metadata();
}

std::string safetensors_bytes(const SafetensorsData& data) {
  json header = json::object();
  if (!data.metadata.empty()) header["__metadata__"] = data.metadata;
  std::string body;
  for (const auto& [name, tensor] : data.tensors) {
    const auto& [shape, values] = tensor;
    uint64_t count = 1;
    for (int64_t size : shape) count *= static_cast<uint64_t>(size);
    SVFLEET_CHECK(count == values.size(), name, ": ", values.size(), " values in a shape of ",
                  count);
    SVFLEET_CHECK(name != "__metadata__", "reserved name ", name);
    const size_t begin = body.size();
    body.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, body.size()}}};
  }
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data are aligned
  const uint64_t length = text.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  return bytes + text + body;
}

void write_safetensors(const std::string& path, const SafetensorsData& data) {
  write_file_atomic(path, safetensors_bytes(data));
}

}  // namespace svfleet
