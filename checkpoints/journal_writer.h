// The thread that writes a rank's journal file, so that no chunk waits for a disk.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "checkpoints/file_steps.h"

namespace svfleet {

// Thread-safe. What waits to be written together is synced together. Once the disk has failed,
// nothing more is written, and every call throws that Error.
class JournalWriter {
 public:
  JournalWriter(std::string run_dir, std::string token, int rank);
  ~JournalWriter();  // writes what is left, if it can
  JournalWriter(const JournalWriter&) = delete;

  // A frame (frame.h) of `step`. Waits while there is much to be written.
  void add(int64_t step, std::string frame);
  void flush();  // until all that was handed in is on the disk
  // What is added from here on goes to another file.
  void end_window();
  // end_window(), and what clear_chunks_before() (journal_files.h) does, later.
  void clear_before(int64_t step, std::set<std::string> keep);

 private:
  struct Job {
    std::string frames;  // empty: the end of a window
    int64_t step = 0;    // of the first frame; or clear what is before it, -1: nothing
    std::set<std::string> keep = {};
  };
  void hand_in(std::unique_lock<std::mutex>& lock, Job job);
  void throw_failure() const;
  void run();
  void work(const Job& job);
  void append(const Job& job);
  void open(const std::string& path, size_t bytes);

  const std::string run_dir_, token_;
  const int rank_;
  // Of the thread.
  std::unique_ptr<File> file_;  // of this window
  std::string path_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;  // the first one is being done
  bool busy_ = false, ends_ = false;
  size_t bytes_ = 0;  // in jobs_
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace svfleet
