#include "checkpoints/journal.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "checkpoints/file.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/run_names.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kFormat[] = "svfleet-chunk";
constexpr int64_t kVersion = 2;  // docs/formats.md; never renumber

std::string folder_of(const std::string& run_dir) {
  return run_dir + "/chunks";
}

std::string file_name(int64_t step, int chunk) {
  char number[32];
  std::snprintf(number, sizeof number, "-chunk-%04d.h5", chunk);
  return step_name(step) + number;
}

// False when `name` is not one that file_name() makes.
bool parse_name(const std::string& name, int64_t* step, int* chunk) {
  const auto of = named_step(name);
  if (!of || !of->rest.starts_with("-chunk-")) return false;
  *step = of->step;
  *chunk = -1;
  std::from_chars(of->rest.data() + 7, of->rest.data() + of->rest.size(), *chunk);
  return *chunk >= 0 && name == file_name(*step, *chunk);
}

FinishedChunk decode(const std::string& path) {
  const Hdf5Reader in(read_file(path), path);
  const int64_t version =
      in.has("format") && in.text("format") == kFormat ? in.integer("version") : 0;
  if (version < 1 || version > kVersion)
    throw disk_error("'", path, "' is not a chunk that this svfleet reads");
  FinishedChunk chunk;
  chunk.run_id = in.text("run_id");
  chunk.step = in.integer("step");
  chunk.chunk = static_cast<int>(in.integer("chunk"));
  chunk.z_hash = in.text("z_hash");
  chunk.gradient = in.floats("gradient");
  if (version == 1) {
    chunk.summary = in.text("summary");
    return chunk;
  }
  chunk.counts = in.integers("counts");
  chunk.sums = in.doubles("sums");
  chunk.texts = in.text("texts");
  return chunk;
}

}  // namespace

void write_chunk(const std::string& run_dir, const FinishedChunk& chunk) {
  SVFLEET_CHECK(chunk.step >= 0 && chunk.chunk >= 0, chunk.step, " ", chunk.chunk);
  Hdf5Writer out;
  out.text("format", kFormat);
  out.integer("version", kVersion);
  out.text("run_id", chunk.run_id);
  out.integer("step", chunk.step);
  out.integer("chunk", chunk.chunk);
  out.text("z_hash", chunk.z_hash);
  out.floats("gradient", chunk.gradient, {static_cast<int64_t>(chunk.gradient.size())});
  out.integers("counts", chunk.counts);
  out.doubles("sums", chunk.sums, {static_cast<int64_t>(chunk.sums.size())});
  out.text("texts", chunk.texts);
  make_folder(folder_of(run_dir));
  write_file_atomic(folder_of(run_dir) + "/" + file_name(chunk.step, chunk.chunk), out.finish());
}

std::vector<FinishedChunk> read_chunks(const std::string& run_dir, const std::string& run_id,
                                       int64_t step, const std::string& z_hash,
                                       std::vector<std::string>* ignored) {
  std::vector<FinishedChunk> chunks;
  // list_folder sorts names, but chunk 10000 sorts before 9999: ordered by number below.
  std::vector<std::pair<int, std::string>> files;
  for (const std::string& name : list_folder(folder_of(run_dir))) {
    const std::string path = folder_of(run_dir) + "/" + name;
    int64_t named_step;
    int named_chunk;
    if (name.find(".tmp-") != name.npos) continue;  // never finished
    if (!parse_name(name, &named_step, &named_chunk))
      ignored->push_back("'" + path + "' ignored: not a name of the chunk journal");
    else if (named_step == step)  // those of others wait for a checkpoint, or for their turn
      files.emplace_back(named_chunk, path);
  }
  std::sort(files.begin(), files.end());
  for (const auto& [number, path] : files) {
    try {
      FinishedChunk chunk = decode(path);
      auto refuse = [&path = path](const char* what, const auto& is, const auto& wanted) {
        throw disk_error("'", path, "' belongs to ", what, " ", is, ", not ", wanted);
      };
      if (chunk.run_id != run_id) refuse("run", chunk.run_id, run_id);
      if (chunk.step != step) refuse("step", chunk.step, step);
      if (chunk.chunk != number) refuse("chunk", chunk.chunk, number);
      if (chunk.z_hash != z_hash) refuse("the policy", chunk.z_hash, z_hash);
      chunks.push_back(std::move(chunk));
    } catch (const Error& error) {
      ignored->push_back(std::string(error.what()) + "; ignored, will be computed again");
    }
  }
  return chunks;
}

void clear_chunks_before(const std::string& run_dir, int64_t step) {
  std::vector<std::string> paths;
  for (const std::string& name : list_folder(folder_of(run_dir))) {
    int64_t named_step;
    int chunk;
    if (parse_name(name, &named_step, &chunk) && named_step < step)
      paths.push_back(folder_of(run_dir) + "/" + name);
  }
  remove_files(paths);
}

}  // namespace svfleet
