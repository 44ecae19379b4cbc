#include "checkpoints/journal.h"

#include <memory>
#include <type_traits>
#include <utility>

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
        unread_.insert(name);  // this machine, or this moment, may be at fault, and not the file
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
    if (!frame.is(FrameKind::kChunk) && !frame.is(FrameKind::kReply)) continue;
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

template <class Record>
void Journal::read_all(int64_t step, const std::string& z_hash, FrameKind kind, int expert,
                       std::vector<std::string>* ignored,
                       const std::function<bool(Record&)>& take) {
  if (!looked_) look(ignored);
  std::unique_ptr<FrameFile> file;  // records lie one behind the other
  std::string opened;
  for (const Old& old : old_[step]) {
    if (!old.frame.is(kind) || old.frame.expert != expert) continue;
    try {
      if (opened != old.name) {
        file = std::make_unique<FrameFile>(path_of(old.name));
        opened = old.name;
      }
      const std::string origin = file->origin(old.frame);
      if (old.frame.z_hash != z_hash) {
        ignored->push_back(foreign(origin, "the policy", old.frame.z_hash, z_hash));
        continue;
      }
      Record record;
      record.step = step;
      record.z_hash = z_hash;
      if constexpr (std::is_same_v<Record, FinishedChunk>) {
        record.run_id = old.frame.run_id;
        record.chunk = int(old.frame.chunk);
        record.expert = expert;
      } else {
        record.place.position = old.frame.chunk;
        record.place.expert = expert;
      }
      decode_payload(file->payload(old.frame), origin, record);
      if (!take(record))
        ignored->push_back(origin + " holds what another one holds as well; ignored");
    } catch (const Error& error) {
      ignored->push_back(error.what() + std::string(kAgain));
    }
  }
}

std::vector<FinishedChunk> Journal::read(int64_t step, const std::string& z_hash,
                                         std::vector<std::string>* ignored, int expert) {
  std::map<int, FinishedChunk> chunks;
  read_all<FinishedChunk>(
      step, z_hash, FrameKind::kChunk, expert, ignored,
      [&](FinishedChunk& chunk) { return chunks.emplace(chunk.chunk, std::move(chunk)).second; });
  std::vector<FinishedChunk> in_order;
  for (auto& [number, chunk] : chunks) in_order.push_back(std::move(chunk));
  return in_order;
}

std::vector<FinishedReply> Journal::read_replies(int64_t step, const std::string& z_hash,
                                                 std::vector<std::string>* ignored, int expert) {
  std::map<ReplyPlace, FinishedReply> replies;
  read_all<FinishedReply>(
      step, z_hash, FrameKind::kReply, expert, ignored,
      [&](FinishedReply& reply) { return replies.emplace(reply.place, std::move(reply)).second; });
  std::vector<FinishedReply> in_order;
  for (auto& [place, reply] : replies) in_order.push_back(std::move(reply));
  return in_order;
}

template <class Record>
void Journal::hand_in(Frame frame, const Record& record) {
  SVFLEET_CHECK(frame.step >= 0 && frame.chunk >= 0, frame.step, " ", frame.chunk);
  frame.run_id = run_id_;
  frame.token = token_;
  std::string bytes(kFrameHeader, '\0');
  append_payload(record, bytes);
  seal_frame(frame, bytes);
  writer_.add(frame.step, std::move(bytes));
}

void Journal::add(const FinishedChunk& chunk) {
  Frame frame;
  frame.step = chunk.step;
  frame.chunk = chunk.chunk;
  frame.expert = chunk.expert;
  frame.z_hash = chunk.z_hash;
  hand_in(frame, chunk);
}

void Journal::add(const FinishedReply& reply) {
  Frame frame;
  frame.kind = FrameKind::kReply;
  frame.step = reply.step;
  frame.chunk = reply.place.position;
  frame.expert = reply.place.expert;
  frame.z_hash = reply.z_hash;
  hand_in(frame, reply);
}

void Journal::flush() {
  writer_.flush();
}

void Journal::checkpointed(int64_t step) {
  if (rank_ != 0) return writer_.end_window();
  old_.erase(old_.begin(), old_.lower_bound(step));
  std::set<std::string> keep = unread_;
  // Of a run that was further on, before it lost a checkpoint.
  for (const auto& [later, chunks] : old_)
    for (const Old& old : chunks) keep.insert(old.name);
  writer_.clear_before(step, std::move(keep));
}

}  // namespace svfleet
