#include "checkpoints/journal.h"

#include <memory>

#include "checkpoints/file.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kAgain[] = "; ignored, will be computed again";

template <class Value>
std::string foreign(const std::string& origin, const char* what, const Value& is,
                    const Value& wanted) {
  return disk_error(origin, " belongs to ", what, " ", is, ", not ", wanted, kAgain).what();
}

}  // namespace

Journal::Journal(std::string run_dir, std::string run_id, std::string token, int rank)
    : run_dir_(std::move(run_dir)),
      run_id_(std::move(run_id)),
      token_(std::move(token)),
      rank_(rank),
      writer_(run_dir_, token_, rank) {}

std::string Journal::path_of(const std::string& name) const {
  return chunks_folder(run_dir_) + "/" + name;
}

void Journal::look(std::vector<std::string>* ignored) {
  looked_ = true;
  for (const std::string& name : list_folder(chunks_folder(run_dir_))) {
    if (name.find(kTemporary) != name.npos) continue;  // never finished, or being removed
    const auto of = chunk_file(name);
    if (!of) {
      ignored->push_back("'" + path_of(name) + "' ignored: not a name of the chunk journal");
    } else if (of->token.empty()) {
      ignored->push_back("'" + path_of(name) + "' ignored: a chunk of an older svfleet");
    } else if (of->token != token_) {
      try {
        look_into(name, *of, ignored);
      } catch (const Error& error) {
        ignored->push_back(error.what() + std::string(kAgain));
      }
    }
  }
}

void Journal::look_into(const std::string& name, const ChunkFile& of,
                        std::vector<std::string>* ignored) {
  FrameFile file(path_of(name));
  FoundFrames found = file.find();
  for (const std::string& line : found.damaged) ignored->push_back(line + kAgain);
  if (!found.torn.empty()) ignored->push_back(found.torn + kAgain);
  uint32_t other_version = 0;
  for (Frame& frame : found.frames) {
    if (frame.version != kFrameVersion) other_version = frame.version;
    if (!frame.is_chunk()) continue;
    const std::string origin = file.origin(frame);
    if (frame.token != of.token)
      ignored->push_back(foreign(origin, "owner", frame.token, of.token));
    else if (frame.run_id != run_id_)
      ignored->push_back(foreign(origin, "run", frame.run_id, run_id_));
    else if (frame.step < of.step)
      ignored->push_back(foreign(origin, "step", frame.step, of.step));
    else
      old_[frame.step].push_back({name, std::move(frame)});
  }
  if (other_version)
    ignored->push_back("'" + path_of(name) + "' has records of version " +
                       std::to_string(other_version) + ", which this svfleet does not read" +
                       kAgain);
}

FinishedChunk Journal::load(const Old& old, FrameFile* file) const {
  FinishedChunk chunk;
  chunk.run_id = old.frame.run_id;
  chunk.step = old.frame.step;
  chunk.chunk = int(old.frame.chunk);
  chunk.z_hash = old.frame.z_hash;
  decode_payload(file->payload(old.frame), file->origin(old.frame), chunk);
  return chunk;
}

std::vector<FinishedChunk> Journal::read(int64_t step, const std::string& z_hash,
                                         std::vector<std::string>* ignored) {
  if (!looked_) look(ignored);
  std::map<int, FinishedChunk> chunks;
  std::unique_ptr<FrameFile> file;  // records lie one behind the other
  std::string opened;
  for (const Old& old : old_[step]) {
    try {
      if (opened != old.name) {
        file = std::make_unique<FrameFile>(path_of(old.name));
        opened = old.name;
      }
      const std::string origin = file->origin(old.frame);
      const int64_t number = old.frame.chunk;
      if (chunks.contains(int(number))) {
        ignored->push_back(origin + " holds a chunk that another one holds as well; ignored");
        continue;
      }
      FinishedChunk chunk = load(old, file.get());
      if (chunk.run_id != run_id_)
        ignored->push_back(foreign(origin, "run", chunk.run_id, run_id_));
      else if (chunk.step != step)
        ignored->push_back(foreign(origin, "step", chunk.step, step));
      else if (chunk.chunk != number)
        ignored->push_back(foreign(origin, "chunk", int64_t(chunk.chunk), number));
      else if (chunk.z_hash != z_hash)
        ignored->push_back(foreign(origin, "the policy", chunk.z_hash, z_hash));
      else
        chunks.emplace(int(number), std::move(chunk));
    } catch (const Error& error) {
      ignored->push_back(error.what() + std::string(kAgain));
    }
  }
  std::vector<FinishedChunk> in_order;
  for (auto& [number, chunk] : chunks) in_order.push_back(std::move(chunk));
  return in_order;
}

void Journal::add(const FinishedChunk& chunk) {
  SVFLEET_CHECK(chunk.step >= 0 && chunk.chunk >= 0, chunk.step, " ", chunk.chunk);
  Frame frame;
  frame.step = chunk.step;
  frame.chunk = chunk.chunk;
  frame.run_id = run_id_;
  frame.z_hash = chunk.z_hash;
  frame.token = token_;
  std::string bytes(kFrameHeader, '\0');
  append_payload(chunk, bytes);
  seal_frame(frame, bytes);
  writer_.add(chunk.step, std::move(bytes));
}

void Journal::flush() {
  writer_.flush();
}

void Journal::checkpointed(int64_t step) {
  if (rank_ != 0) return writer_.end_window();
  old_.erase(old_.begin(), old_.lower_bound(step));
  std::set<std::string> keep;  // of a run that was further on, before it lost a checkpoint
  for (const auto& [later, chunks] : old_)
    for (const Old& old : chunks) keep.insert(old.name);
  writer_.clear_before(step, std::move(keep));
}

}  // namespace svfleet
