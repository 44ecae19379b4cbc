// Every file that is read, damaged in many ways: read all the same, or refused with an exit code
// that says what to do; never a bug of ours, never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "checkpoints/clean.h"
#include "checkpoints/content_hash.h"
#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/own_lines.h"
#include "checkpoints/owner.h"
#include "checkpoints/run_checkpoint.h"
#include "checkpoints/safetensors.h"
#include "cluster/exit_report.h"
#include "cluster/restart.h"
#include "coordinator/config/config.h"
#include "coordinator/config/run_file.h"
#include "coordinator/crew/run_program.h"
#include "coordinator/run/log_index.h"
#include "coordinator/run/status.h"
#include "rl/task.h"
#include "svd/store.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/checkpoints/scratch.h"
#include "tests/mutation.h"
#include "worker/model/architecture.h"
#include "worker/tokenizer/chat_template.h"
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {
namespace {

using nlohmann::json;

const std::string kData = std::string(SVFLEET_SOURCE_DIR) + "/tests/data";

JobPhase nobody_knows(const std::string&, const std::string&) {
  return JobPhase::kUnknown;
}

struct Kind {
  std::string file;  // in the folder of the test
  std::string good;
  std::function<void()> read;
  int rounds = 60;
};

const json kOthers[] = {nullptr,
                        true,
                        -1,
                        0,
                        1,
                        3.5,
                        1e300,
                        1u << 31,
                        uint64_t(-1),
                        int64_t(1) << 62,
                        "",
                        "a",
                        "../x",
                        "\n",
                        "1",
                        json::array(),
                        json::object(),
                        {1, 2},
                        {"a"},
                        {{"a", 1}},
                        {{{"a", "b"}}},
                        "\u2028"};

// Another value, or none, somewhere in a JSON text.
std::string other_json(const std::string& text, std::mt19937& random) {
  json changed = json::parse(text, nullptr, false);
  if (changed.is_discarded()) return text;
  change_value(changed, kOthers, random);
  return changed.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string other_bytes(const std::string& bytes, std::mt19937& random) {
  return bytes.empty() ? "x" : change_bytes(bytes, random);
}

// The header of a safetensors file, which is JSON.
std::string other_header(const std::string& bytes, std::mt19937& random) {
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  const std::string header = other_json(bytes.substr(8, size), random);
  size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header +
         bytes.substr(8 + size < bytes.size() ? 8 + size : bytes.size());
}

std::string damaged(const Kind& kind, int round, std::mt19937& random) {
  if (round % 2) return other_bytes(kind.good, random);
  if (kind.file.ends_with(".safetensors")) return other_header(kind.good, random);
  const size_t line = kind.good.find("}\n{") == std::string::npos ? 0 : kind.good.find("}\n{") + 2;
  if (line) return kind.good.substr(0, line) + other_json(kind.good.substr(line), random);
  const std::string changed = other_json(kind.good, random);
  return changed == kind.good ? other_bytes(kind.good, random) : changed;
}

class DamagedFiles : public testing::Test {
 protected:
  std::string in(const std::string& name) const { return scratch_ / name; }

  void write(const std::string& name, const std::string& text) {
    make_folder(in(name).substr(0, in(name).rfind('/')));
    std::ofstream(in(name), std::ios::binary) << text;  // not synced: that takes long
  }

  // Each of them whole again afterwards.
  void damage(const std::vector<Kind>& kinds) {
    std::mt19937 random(7);
    for (const Kind& kind : kinds) {
      int read = 0, refused = 0;
      for (int round = -1; round < kind.rounds; ++round) {
        const std::string bytes = round < 0 ? kind.good : damaged(kind, round, random);
        write(kind.file, bytes);
        try {
          kind.read();
          ++read;
        } catch (const Error& error) {
          ++refused;
          EXPECT_THAT(error.code(), testing::AnyOf(kExitUser, kExitDisk))
              << kind.file << ": " << error.what() << "\n"
              << bytes.substr(0, 2000);
          EXPECT_GE(round, 0) << kind.file << ": " << error.what();
        } catch (const std::exception& error) {
          ADD_FAILURE() << kind.file << ": " << error.what() << "\n" << bytes.substr(0, 2000);
        }
      }
      EXPECT_GT(read, 0) << kind.file;
      write(kind.file, kind.good);
      std::printf("%-34s %3d read, %3d refused\n", kind.file.c_str(), read, refused);
    }
  }

  // A file of each kind that a run, its store and its jobs leave.
  void write_run(const std::string& run) {
    write("run/run.json",
          R"({"format": "svfleet-run", "version": 1, "run_id": "0123", "config": "a.yaml",
      "parent": {"run_dir": "/x", "run_id": "4567", "step": 2, "state_hash": "89"}, "changed": ["a"]})");
    RunState state;
    state.step = 1;
    state.slots = {{"w", 0, 3}};
    state.p = state.m = state.v = {1, 2, 3};
    state.bits_config = "{}";
    state.identity = R"({"program": "p", "torch": "2.11.0 hash 1"})";
    save_checkpoint(run, state);
    write_journal(run, "a", {example_chunk(1, 0), example_chunk(1, 1)});
    Expert expert;
    expert.z["w"] = {1, 2, 3};
    make_folder(run + "/experts");
    save_expert(run + "/experts/best.safetensors", expert);
    {
      const Owner left = Owner::take(run, {"node7", 4711, "", 0, ""});
      write("owner.json", read_file(run + "/owner.json"));
    }
    write_exit_report(run, {"why", 75, "", 0, 1, 0, {"n1"}});
    write_clean(run, {1, {{0, 1}}, ""});
    append_own_line(
        run + "/log.jsonl",
        R"({"kind": "step", "time": "t", "step": 1, "attempt": 1, "reward": 0.5, "seconds": {"save": 1}})");
    append_own_line(
        run + "/log.jsonl",
        R"({"kind": "evaluation", "time": "t", "step": 1, "attempt": 1, "name": "validation", "accuracy": 0.5})");
    write(
        "run/ledger.jsonl",
        R"({"kind": "start", "time": 5, "began": 1, "job": "", "restarts": 0, "start": 0, "ranks": 1, "slots": 1, "hosts": ["a"], "previous_sign": 1}
  {"kind": "spent", "time": 6, "seconds": {"loading": 1}, "step": 1}
  )");
    write("run/alive.json",
          R"({"format": "svfleet-alive", "version": 1, "time": 5, "host": "h", "pid": 1,
      "job": "", "restarts": 0, "doing": "it", "doing_since": 1, "step": 1, "steps": 2, "chunks": 0,
      "chunks_per_step": 1, "steps_per_s": 1, "out": [{"chunk": 1, "rank": 0, "seconds": 1}]})");
    write("run/restarts.json",
          R"({"step": 1, "chunks": 0, "factors": 0, "without_progress": 1, "job": "",
      "restarts": 0, "start": 0, "at_fault": ["a"], "disk": ["b"]})");
    write("run/stop.json",
          R"({"format": "svfleet-stop", "version": 1, "time": 1, "host": "h", "pid": 1})");
    write(
        "program.json",
        R"({"format": "svfleet-program", "version": 1, "hash": "h", "torch": "t", "libraries": ["/a/b.so"]})");
    write("store/store.json", R"({"format": "svfleet-factor-store", "version": 1, "model_hash": "m",
      "model_fingerprint": "f", "tensor_hashes": {"w": "t"}, "storage": "float32", "machines": {"h": {"cpu": "c"}},
      "made_on": {"w": "h"}})");
  }

  Scratch scratch_;
};

TEST_F(DamagedFiles, OfARun) {
  const std::string run = in("run"), store = in("store");
  write_run(run);
  const auto good = [&](const char* name) { return read_file(in(name)); };
  const std::string owner = good("owner.json"), program = good("program.json");

  damage({{"run/run.json", good("run/run.json"), [&] { (void)read_run_file(run).value(); }, 200},
          {"store/store.json", good("store/store.json"),
           [&] {
             FactorStore::Manifest manifest;
             const FactorStore here(store);
             here.load_manifest(&manifest);
             here.note_made({{"x", "h"}});
           },
           200},
          {"run/owner.json", owner, [&] { look_at_owner(run); }, 4},
          {"run/exit.json", good("run/exit.json"), [&] { read_exit_report(run); }},
          {"run/alive.json", good("run/alive.json"), [&] { look_at_run(run); }},
          {"run/ledger.jsonl", good("run/ledger.jsonl"), [&] { look_at_run(run); }, 100},
          {"run/log.jsonl", good("run/log.jsonl"),
           [&] {
             look_at_run(run);
             index_logs(run);
             broken_lines(run);
           },
           100},
          {"run/clean.json", good("run/clean.json"), [&] { read_clean(run); }},
          {"run/last-line", good("run/last-line"), [&] { settle_last_line(run, "by"); }},
          {"run/stop.json", good("run/stop.json"), [&] { look_at_run(run); }, 20},
          {"run/restarts.json", good("run/restarts.json"),
           [&] {
             decide_after_run({run, store, "1"}, nobody_knows);
           }},
          {"run/checkpoints/step-000001.h5", good("run/checkpoints/step-000001.h5"),
           [&] { load_checkpoint(run, 1); }},
          {"run/chunks/step-000001-rank-0000-a.journal",
           good("run/chunks/step-000001-rank-0000-a.journal"),
           [&] {
             std::vector<std::string> ignored;
             read_journal(run, 1, &ignored);
             count_chunks(run, 0);
             check_chunk_file(run + "/chunks/step-000001-rank-0000-a.journal");
           },
           300},
          {"run/experts/best.safetensors", good("run/experts/best.safetensors"),
           [&] { load_expert(run + "/experts/best.safetensors"); }, 200},
          {"fresh/bin/program.json", program, [&] { choose_program(in("fresh"), true); }}});
}

TEST_F(DamagedFiles, OfAModel) {
  const std::string model = in("model");
  std::filesystem::copy(kData + "/models/tiny_llama3", model);
  const auto good = [&](const char* name) { return read_file(in(name)); };
  const auto weights = [&] { SafetensorsFolder(model).content_hash(); };
  const auto architecture = [&] { read_architecture(model); };
  damage({{"model/config.json", good("model/config.json"), architecture, 300},
          {"model/generation_config.json", good("model/generation_config.json"), architecture, 100},
          {"model/tokenizer_config.json", good("model/tokenizer_config.json"),
           [&] { ChatTemplate::load(model); }, 100},
          {"model/tokenizer.json", good("model/tokenizer.json"),
           [&] { Tokenizer::load(model).encode("the 7 cats", true); }, 60},
          {"model/model.safetensors.index.json", good("model/model.safetensors.index.json"),
           weights, 60},
          {"model/model-00001-of-00002.safetensors", good("model/model-00001-of-00002.safetensors"),
           weights, 100}});
}

TEST_F(DamagedFiles, OfAUser) {
  write("train.jsonl", R"({"question": "one?", "answer": "1", "choices": ["1", "2"]}
{"question": "two?", "answer": "2", "choices": ["1", "2"]}
)");
  TaskSpec spec;
  spec.name = "t";
  spec.train = in("train.jsonl");
  RewardSpec reward;
  reward.kind = RewardKind::kLastNumber;
  spec.rewards = {reward};
  const std::string yaml = R"(model: {path: m}
run_dir: r
svd: {targets: [mlp], layers: "0..3"}
task:
  file: )" + in("task.yaml") +
                           R"(
  weight: 2
train: {steps: 5, seed: 1, learning_rate: 1e-3}
)",
                    task = R"(name: t
train: train.jsonl
rewards: [{kind: regex, pattern: "a{2}", weight: 2}]
few_shot: {file: train.jsonl, count: 2}
stop: ["\n", "x"]
)";
  write("task.yaml", task);
  const auto load = [&] { load_config(in("run.yaml"), {}); };
  damage({{"train.jsonl", read_file(in("train.jsonl")), [&] { load_task(spec, "train"); }, 300},
          {"run.yaml", yaml, load, 300}});
  damage({{"task.yaml", task, load, 300}});
}

}  // namespace
}  // namespace svfleet
