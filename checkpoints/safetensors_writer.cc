#include "checkpoints/safetensors_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {

using nlohmann::json;

struct SafetensorsWriter::Impl {
  std::string path;
  File file;
  uint64_t wanted = 0, written = 0;  // bytes of tensors

  explicit Impl(const std::string& where)
      : path(where), file(where, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC) {
    if (file.fd() < 0) write_failed(path, "open", errno, 0);
  }

  void write(std::string_view bytes) {
    constexpr size_t kPiece = size_t{16} << 20;  // so that a slow disk is seen to move
    for (; !bytes.empty(); bytes.remove_prefix(std::min(kPiece, bytes.size()))) {
      const InStage writing(Stage::kDisk);
      const int error = write_all(file.fd(), bytes.substr(0, kPiece));
      if (error != 0) write_failed(path, "write", error, bytes.size());
    }
  }
};

SafetensorsWriter::SafetensorsWriter(std::string path,
                                     const std::map<std::string, std::string>& metadata,
                                     const std::vector<TensorEntry>& entries)
    : impl_(std::make_unique<Impl>(path)) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const TensorEntry& entry : entries) {
    const uint64_t begin = impl_->wanted;
    impl_->wanted += entry.bytes;
    header[entry.name] = {
        {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {begin, impl_->wanted}}};
  }
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data are aligned
  const uint64_t length = text.size();
  impl_->write({reinterpret_cast<const char*>(&length), sizeof length});
  impl_->write(text);
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::add(std::string_view bytes) {
  impl_->write(bytes);
  impl_->written += bytes.size();
}

void SafetensorsWriter::finish() {
  SVFLEET_CHECK(impl_->written == impl_->wanted, impl_->path, ": ", impl_->written, " bytes of ",
                impl_->wanted);
  if (file_system().sync(impl_->file.fd()) != 0) write_failed(impl_->path, "fsync", errno, 0);
  if (impl_->file.close() != 0) write_failed(impl_->path, "close", errno, 0);
}

}  // namespace svfleet
