#include "checkpoints/journal_files.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <tuple>
#include <utility>

#include "checkpoints/file.h"
#include "checkpoints/frame.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/run_names.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr std::string_view kJournal = ".journal", kOld = ".h5";

std::string number_text(int number) {
  char text[16];
  std::snprintf(text, sizeof text, "%04d", number);
  return text;
}

}  // namespace

std::string chunks_folder(const std::string& run_dir) {
  return run_dir + "/chunks";
}

std::string journal_name(int64_t step, int rank, const std::string& token) {
  return step_name(step) + "-rank-" + number_text(rank) + "-" + token + std::string(kJournal);
}

std::optional<ChunkFile> chunk_file(std::string_view name) {
  const auto of = named_step(name);
  if (!of) return std::nullopt;
  constexpr std::string_view kRank = "-rank-", kChunk = "-chunk-";
  std::string_view rest = of->rest;
  const bool journal = rest.starts_with(kRank);
  if (!journal && !rest.starts_with(kChunk)) return std::nullopt;
  rest.remove_prefix(journal ? kRank.size() : kChunk.size());
  ChunkFile file{of->step, -1, ""};
  std::from_chars(rest.data(), rest.data() + rest.size(), file.number);
  if (file.number < 0) return std::nullopt;
  const std::string number = number_text(file.number);
  if (!journal)
    return name == step_name(file.step) + "-chunk-" + number + std::string(kOld)
               ? std::optional(file)
               : std::nullopt;
  if (!rest.starts_with(number + "-") || !rest.ends_with(kJournal)) return std::nullopt;
  rest.remove_prefix(number.size() + 1);
  if (rest.size() <= kJournal.size()) return std::nullopt;
  file.token = rest.substr(0, rest.size() - kJournal.size());
  if (!std::all_of(file.token.begin(), file.token.end(),
                   [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'); }))
    return std::nullopt;
  return name == journal_name(file.step, file.number, file.token) ? std::optional(file)
                                                                  : std::nullopt;
}

namespace {

// Different records of a kind, by step and by what `key` makes of their headers.
template <class Key>
int64_t count(const std::string& run_dir, int64_t from_step, FrameKind kind, Key key) {
  std::set<decltype(key(Frame()))> finished;
  for (const std::string& name : list_folder(chunks_folder(run_dir))) {
    const auto of = chunk_file(name);
    if (!of || of->token.empty()) continue;
    const std::string path = chunks_folder(run_dir) + "/" + name;
    try {
      for (const Frame& frame : FrameFile(path).find().frames)
        if (frame.is(kind) && frame.step >= from_step) finished.insert(key(frame));
    } catch (const Error&) {
      if (file_exists(path)) throw;  // else it was cleared meanwhile
    }
  }
  return int64_t(finished.size());
}

}  // namespace

int64_t count_chunks(const std::string& run_dir, int64_t from_step) {
  return count(run_dir, from_step, FrameKind::kChunk, [](const Frame& frame) {
    return std::tuple(frame.step, frame.expert, frame.chunk);
  });
}

int64_t count_replies(const std::string& run_dir, int64_t from_step) {
  // Samples of one prompt have the same header but for the hash of what they say.
  return count(run_dir, from_step, FrameKind::kReply, [](const Frame& frame) {
    return std::tuple(frame.step, frame.expert, frame.chunk, frame.hash);
  });
}

void check_chunk_file(const std::string& path) {
  if (!path.ends_with(kJournal)) {
    Hdf5Reader(read_file(path), path);
    return;
  }
  FrameFile file(path);
  FoundFrames found = file.find();
  for (const Frame& frame : found.frames) try {
      file.payload(frame);
    } catch (const Error& error) {
      found.damaged.push_back(error.what());
    }
  if (found.damaged.empty()) return;
  const size_t more = found.damaged.size() - 1;
  throw disk_error(found.damaged[0], more ? ", and " + std::to_string(more) + " more" : "");
}

void clear_chunks_before(const std::string& run_dir, int64_t step,
                         const std::set<std::string>& keep) {
  std::vector<std::string> paths;
  for (const std::string& name : list_folder(chunks_folder(run_dir)))
    if (const auto of = chunk_file(name); of && of->step < step && !keep.contains(name))
      paths.push_back(chunks_folder(run_dir) + "/" + name);
  remove_files(paths);
}

}  // namespace svfleet
