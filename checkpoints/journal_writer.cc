#include "checkpoints/journal_writer.h"

#include <fcntl.h>

#include <cerrno>

#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/journal_files.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

constexpr size_t kMostBytes = 64 << 20;    // waiting to be written
constexpr size_t kMostTogether = 4 << 20;  // copied to be written by one call

// A stage for each piece that the thread gets done, for whoever waits for it.
void waits_for_disk(size_t bytes) {
  enter(Stage::kDisk, double(bytes) / double(16 << 20));
}

}  // namespace

JournalWriter::JournalWriter(std::string run_dir, std::string token, int rank)
    : run_dir_(std::move(run_dir)), token_(std::move(token)), rank_(rank) {
  thread_ = std::thread([this] { run(); });
}

JournalWriter::~JournalWriter() {
  {
    std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void JournalWriter::throw_failure() const {
  if (failure_) std::rethrow_exception(failure_);
}

void JournalWriter::hand_in(std::unique_lock<std::mutex>& lock, Job job) {
  bytes_ += job.frames.size();
  const bool joins = !job.frames.empty() && jobs_.size() > size_t(busy_) &&
                     !jobs_.back().frames.empty() &&
                     jobs_.back().frames.size() + job.frames.size() <= kMostTogether;
  if (joins)
    jobs_.back().frames += job.frames;
  else
    jobs_.push_back(std::move(job));
  lock.unlock();
  changed_.notify_all();
}

void JournalWriter::add(int64_t step, std::string frame) {
  const InStage writing(Stage::kDisk);
  std::unique_lock lock(mutex_);
  while (!failure_ && bytes_ > 0 && bytes_ + frame.size() > kMostBytes) {
    waits_for_disk(bytes_);
    changed_.wait(lock);
  }
  throw_failure();
  hand_in(lock, {std::move(frame), step});
}

void JournalWriter::flush() {
  const InStage writing(Stage::kDisk);
  std::unique_lock lock(mutex_);
  while (!failure_ && !jobs_.empty()) {
    waits_for_disk(bytes_);
    changed_.wait(lock);
  }
  throw_failure();
}

void JournalWriter::end_window() {
  clear_before(-1, {});
}

void JournalWriter::clear_before(int64_t step, std::set<std::string> keep) {
  std::unique_lock lock(mutex_);
  throw_failure();
  hand_in(lock, {"", step, std::move(keep)});
}

void JournalWriter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ends_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    busy_ = true;
    const Job& job = jobs_.front();  // stays where it is while others come behind it
    lock.unlock();
    std::exception_ptr failure;
    try {
      work(job);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    busy_ = false;
    bytes_ -= job.frames.size();
    jobs_.pop_front();
    if (failure) {
      failure_ = failure;
      jobs_.clear();
      bytes_ = 0;
    }
    changed_.notify_all();
    if (failure_) return;
  }
}

void JournalWriter::work(const Job& job) {
  if (!job.frames.empty()) return append(job);
  // All of it was synced, and on a network disk it may be gone already: what closing says is late.
  file_.reset();
  if (job.step >= 0) clear_chunks_before(run_dir_, job.step, job.keep);
}

void JournalWriter::open(const std::string& path, size_t bytes) {
  make_folder(chunks_folder(run_dir_));
  check_guard(path);  // the file may be new
  auto file = std::make_unique<File>(path, O_WRONLY | O_CREAT | O_APPEND);
  if (file->fd() < 0) write_failed(path, "open", errno, bytes);
  file_ = std::move(file);
  path_ = path;
}

void JournalWriter::append(const Job& job) {
  const bool is_new = !file_;
  const size_t bytes = job.frames.size();
  if (is_new) open(chunks_folder(run_dir_) + "/" + journal_name(job.step, rank_, token_), bytes);
  check_guard_of_append(path_);
  if (const int error = write_all(file_->fd(), job.frames))
    write_failed(path_, "write", error, bytes);
  if (file_system().sync(file_->fd()) != 0) write_failed(path_, "fsync", errno, bytes);
  if (is_new) sync_parent(path_, bytes);
}

}  // namespace svfleet
