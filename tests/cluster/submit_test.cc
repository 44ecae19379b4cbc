// The parts of a submission that ask nobody: the script, limits, partitions, deadlines.
#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cluster/allocation_end.h"
#include "cluster/job_script.h"
#include "cluster/partition.h"
#include "comm/error.h"
#include "tests/cluster/scratch.h"

namespace svfleet {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(TimeLimit, AllOfSlurmsForms) {
  EXPECT_EQ(time_limit_s("90"), 90 * 60);
  EXPECT_EQ(time_limit_s("90:30"), 90 * 60 + 30);
  EXPECT_EQ(time_limit_s("8:00:00"), 8 * 3600);
  EXPECT_EQ(time_limit_s("1-2"), 26 * 3600);
  EXPECT_EQ(time_limit_s("1-2:30"), 26 * 3600 + 30 * 60);
  EXPECT_EQ(time_limit_s("1-00:00:05"), 86405);
  for (const char* wrong : {"", "0", "8h", "1:2:3:4", "-5", "1-", "1:", ":", "UNLIMITED",
                            "1-2:3:4:5", "8:00:00 --wrap=x"})
    EXPECT_EQ(time_limit_s(wrong), std::nullopt) << wrong;
}

TEST(MemorySize, AllOfSlurmsForms) {
  EXPECT_EQ(memory_mib("1500"), 1500);
  EXPECT_EQ(memory_mib("1500M"), 1500);
  EXPECT_EQ(memory_mib("4G"), 4096);
  EXPECT_EQ(memory_mib("4g"), 4096);
  EXPECT_EQ(memory_mib("1T"), 1048576);
  EXPECT_EQ(memory_mib("2048K"), 2);
  for (const char* wrong : {"", "0", "G", "4GB", "x", "-4G", "4 G"})
    EXPECT_EQ(memory_mib(wrong), std::nullopt) << wrong;
}

JobScript example() {
  JobScript job;
  job.request.nodes = 8;
  job.request.cpus_per_task = 4;
  job.request.partition = "low";
  job.request.name = "svfleet-a";
  job.program = "/opt/it's here/svfleet";
  job.command = {"train", "/data/my run.yaml", "--set", "train.seed=$(date)"};
  job.folder = "/data";
  job.run_dir = "/data/runs/a";
  job.store = "/data/store";
  return job;
}

// What bash itself makes of the script, without running its body.
std::string run_bash(const std::string& script) {
  const Scratch scratch;
  scratch.write("job.sh", script);
  FILE* pipe = popen(("bash " + (scratch.path / "job.sh").string() + " 2>&1").c_str(), "r");
  std::string out;
  for (int c; (c = fgetc(pipe)) != EOF;) out += char(c);
  pclose(pipe);
  return out;
}

TEST(JobScriptText, IsWhatSlurmAndBashUnderstand) {
  JobScript job = example();
  job.folder = "/data/a#b";  // sbatch takes an unquoted # for a comment
  job.request.constraint = "[a|b]&c*2";
  job.request.exclude = "n[3-5]";
  const std::string script = job_script(job);
  for (const char* line :
       {"#!/bin/bash\n", "#SBATCH --nodes=8\n", "#SBATCH --ntasks-per-node=1\n",
        "#SBATCH --cpus-per-task=4\n", "#SBATCH --requeue\n", "#SBATCH --open-mode=append\n",
        "#SBATCH --signal=B:USR1@60\n", "#SBATCH --output=\"/data/runs/a/slurm-%j.out\"\n",
        "#SBATCH --chdir=\"/data/a#b\"\n", "#SBATCH --constraint=\"[a|b]&c*2\"\n",
        "#SBATCH --exclude=\"n[3-5]\"\n",
        "srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=$cpus", "scontrol requeue"})
    EXPECT_THAT(script, HasSubstr(line));
  EXPECT_THAT(script, Not(HasSubstr("--account")));
  EXPECT_THAT(script, Not(HasSubstr("--time")));
  EXPECT_THAT(script, Not(HasSubstr("singleton")));
  // srun's words arrive whole: a stand-in prints them, and nothing was run in between.
  std::string tried = script;
  const std::string stand_in =
      "\nsrun() { printf '<%s>' \"${@:4}\"; }\nscontrol() { echo ' Restarts=1 '; "
      "}\nSLURM_JOB_ID=7\n";
  tried.insert(tried.find("\nstep="), stand_in);
  EXPECT_THAT(run_bash(tried), HasSubstr("</opt/it's here/svfleet><train></data/my run.yaml>"
                                         "<--set><train.seed=$(date)>"));
}

TEST(JobScriptText, AScriptThatWasCutOffDoesNotRestartItsSuccessor) {
  JobScript job = example();
  job.program = "stand_in";  // asks for a restart
  const auto with_restarts = [&](const std::string& as_slurm_knows) {
    std::string script = job_script(job);
    script.insert(script.find("\nstep="),
                  "\nsrun() { :; }\nsleep() { :; }\nstand_in() { return 75; }\nscontrol() {\n"
                  "[ $1 = requeue ] && echo asked || echo 'JobState=RUNNING Restarts=" +
                      as_slurm_knows +
                      " BatchFlag=1'\n}\n"
                      "SLURM_JOB_ID=7\nrestarts=3\n");
    return run_bash(script);
  };
  EXPECT_THAT(with_restarts("3"), HasSubstr("asked"));
  EXPECT_THAT(with_restarts("4"), HasSubstr("a later one has taken over"));
  EXPECT_THAT(with_restarts("4"), Not(HasSubstr("asked")));
}

// The script as it is, with Slurm's commands and the program as stand-ins on PATH. `after_run` is
// what the program does as after-run, `probe` what srun does for the empty steps before the run's.
struct Ran {
  std::string out;
  bool asked;  // for another start
  int code;
};
Ran run_job(const std::string& after_run, int restarts, const std::string& probe = ":",
            JobScript job = example()) {
  const Scratch scratch;
  const auto program = [&](const std::string& name, const std::string& body) {
    scratch.write("bin/" + name, "#!/bin/bash\n" + body + "\n");
    chmod((scratch.path / "bin" / name).c_str(), 0755);
  };
  program("srun", "case \"$*\" in *' true') " + probe + " ;; *) echo ranks started ;; esac");
  program("scontrol",
          "if [ $1 = requeue ]; then echo requeue asked; else echo \"JobState=RUNNING "
          "Restarts=$SLURM_RESTART_COUNT BatchFlag=1\"; fi");
  program("scancel", "echo chain cancelled");
  program("sleep", ":");
  program("program", after_run);
  if (after_run.empty()) fs::remove(scratch.path / "bin/program");
  job.program = scratch.path / "bin/program";
  scratch.write("job.sh", job_script(job));
  const std::string command =
      "PATH=" + (scratch.path / "bin").string() +
      ":$PATH SLURM_JOB_ID=7 SLURM_RESTART_COUNT=" + std::to_string(restarts) +
      " bash -c 'export JOB_SHELL=$$; exec bash " + (scratch.path / "job.sh").string() + "' 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  Ran ran{};
  for (int c; (c = fgetc(pipe)) != EOF;) ran.out += char(c);
  ran.code = WEXITSTATUS(pclose(pipe));
  ran.asked = ran.out.find("requeue asked") != std::string::npos;
  return ran;
}

TEST(JobScriptText, AfterRunThatFailsItselfEndsNoJob) {
  const std::string failures[] = {"exit 74", "exit 126", "kill -9 $$", "kill -BUS $$", "exit 1"};
  for (const std::string& failure : failures) {
    EXPECT_TRUE(run_job(failure, 4).asked) << failure;
    EXPECT_TRUE(run_job(failure, 49).asked) << failure;
    const Ran last = run_job(failure, 50);
    EXPECT_FALSE(last.asked) << failure;
    EXPECT_EQ(last.code, 76) << failure;
    EXPECT_THAT(last.out, HasSubstr("nothing was decided, and this is restart 50"));
  }
  EXPECT_TRUE(run_job("", 4).asked);  // 127: the program is out of reach
  // Controls: what was decided holds.
  for (const int decision : {0, 2, 70, 76}) {
    const Ran ran = run_job("exit " + std::to_string(decision), 4);
    EXPECT_FALSE(ran.asked) << decision;
    EXPECT_EQ(ran.code, decision);
    EXPECT_THAT(ran.out, Not(HasSubstr("nothing was decided")));
  }
  EXPECT_TRUE(run_job("exit 75", 60).asked);
  // The jobs that wait behind one of a chain stay.
  JobScript chain = example();
  chain.request.chain = 3;
  EXPECT_THAT(run_job("exit 74", 0, ":", chain).out, Not(HasSubstr("chain cancelled")));
  EXPECT_EQ(run_job("exit 74", 0, ":", chain).code, 75);
  EXPECT_THAT(run_job("exit 76", 0, ":", chain).out, HasSubstr("chain cancelled"));
}

TEST(JobScriptText, AWarningBeforeTheRanksAreStartedIsNotLost) {
  for (const char* signal : {"USR1", "TERM"}) {
    const Ran ran = run_job("exit 75", 1, std::string("kill -") + signal + " $JOB_SHELL");
    EXPECT_THAT(ran.out, HasSubstr(std::string("SIG") + signal + " came before the ranks"));
    EXPECT_THAT(ran.out, Not(HasSubstr("ranks started")));
    EXPECT_THAT(ran.out, Not(HasSubstr("asking the ranks")));
    EXPECT_TRUE(ran.asked);
  }
  EXPECT_THAT(run_job("exit 75", 1).out, HasSubstr("ranks started"));  // the control
}

TEST(JobScriptText, ChainsAndJobsThatAreNotRequeued) {
  JobScript job = example();
  job.request.chain = 3;
  std::string script = job_script(job);
  EXPECT_THAT(script, HasSubstr("#SBATCH --dependency=singleton\n"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --no-requeue\n"));
  EXPECT_THAT(script, HasSubstr("scancel"));
  EXPECT_THAT(script, Not(HasSubstr("scontrol requeue")));
  job.request.chain = 1;
  job.request.requeue = false;
  script = job_script(job);
  EXPECT_THAT(script, HasSubstr("#SBATCH --no-requeue\n"));
  EXPECT_THAT(script, Not(HasSubstr("scontrol requeue")));
  EXPECT_THAT(script, Not(HasSubstr("scancel")));
}

constexpr char kPartitions[] =
    "PartitionName=low AllowGroups=ALL Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 "
    "MinNodes=0 "
    "MaxCPUsPerNode=UNLIMITED Nodes=n[1-4] State=UP TotalCPUs=8 TotalNodes=4\n"
    "PartitionName=big Default=NO MaxNodes=2 MaxTime=UNLIMITED MinNodes=2 MaxCPUsPerNode=8 "
    "Nodes=b[1-3] State=UP TotalCPUs=48 TotalNodes=3\n"
    "PartitionName=old Default=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 State=DOWN "
    "TotalNodes=9\n";
constexpr char kNodes[] =
    "low|3|2|1000|(null)\nlow|1|2|4000|gpu:a100:4(S:0-1)\nbig|3|16|64000+|gpu:2\nold|9|4|1000|\n";

// The line of the refusal, or "".
std::string refusal(const JobRequest& request) {
  try {
    check_against(request, parse_partitions(kPartitions, kNodes));
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
    return error.what();
  }
}

TEST(Partitions, RefuseWhatCanNeverStart) {
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({.nodes = 4, .cpus_per_task = 2, .time = "24:00:00"}), "");
  EXPECT_EQ(refusal({.nodes = 2, .ranks_per_node = 2, .cpus_per_task = 4, .partition = "big"}), "");
  EXPECT_EQ(refusal({.gres = "gpu:4", .memory = "4000"}), "");
  EXPECT_EQ(refusal({.nodes = 2, .partition = "big", .gres = "gpu:2", .memory = "62G"}), "");
  EXPECT_THAT(refusal({.partition = "lwo"}), HasSubstr("does not exist here; there are: low, big"));
  EXPECT_THAT(refusal({.partition = "low,nope"}), HasSubstr("'nope' does not exist"));
  EXPECT_THAT(refusal({.partition = "old"}), HasSubstr("is DOWN"));
  EXPECT_THAT(refusal({.nodes = 5}), HasSubstr("has 4 nodes, --nodes asks for 5"));
  EXPECT_THAT(refusal({.nodes = 3, .partition = "big"}), HasSubstr("allows 2 nodes a job"));
  EXPECT_THAT(refusal({.nodes = 1, .partition = "big"}), HasSubstr("at least 2 nodes"));
  EXPECT_THAT(refusal({.time = "1-00:01"}), HasSubstr("allows 1 days, --time asks for 1441 min"));
  EXPECT_THAT(refusal({.ranks_per_node = 2, .cpus_per_task = 2}), HasSubstr("0 nodes with the 4"));
  EXPECT_THAT(refusal({.nodes = 2, .cpus_per_task = 16, .partition = "big"}),
              HasSubstr("allows 8 cores a node"));
  EXPECT_THAT(refusal({.nodes = 2, .memory = "2G"}), HasSubstr("1 nodes with 2048 MiB"));
  EXPECT_THAT(refusal({.gres = "gpu:5"}), HasSubstr("0 nodes with --gres gpu:5"));
  EXPECT_THAT(refusal({.gres = "gpu:h100:1"}), HasSubstr("0 nodes with --gres"));
  EXPECT_THAT(refusal({.nodes = 2, .gres = "gpu:1"}), HasSubstr("1 nodes with --gres"));
}

TEST(NodeLocal, ByMountAndByName) {
  const std::string mounts =
      "overlay / overlay rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\ntmpfs /fast\\040disk tmpfs rw 0 0\n"
      "server:/x /home nfs4 rw 0 0\nserver:/y /tmp/shared nfs rw 0 0\ntmpfs /home/mem tmpfs rw 0 "
      "0\n";
  EXPECT_EQ(node_local("/home/u/run", mounts), "");
  EXPECT_EQ(node_local("/data/run", mounts), "");
  EXPECT_EQ(node_local("/tmpfiles/run", mounts), "");
  EXPECT_EQ(node_local("/tmp/shared/run", mounts), "");  // someone mounted a shared disk there
  EXPECT_THAT(node_local("/tmp/run", mounts), HasSubstr("/tmp"));
  EXPECT_THAT(node_local("/tmp", mounts), HasSubstr("/tmp"));
  EXPECT_THAT(node_local("/run/user/0/x", mounts), HasSubstr("/run"));
  EXPECT_THAT(node_local("/dev/shm/x", mounts), HasSubstr("tmpfs"));
  EXPECT_THAT(node_local("/fast disk/x", mounts), HasSubstr("tmpfs at /fast disk"));
  EXPECT_THAT(node_local("/home/mem/x", mounts), HasSubstr("tmpfs"));
}

TEST(DeadlineTest, StopsWhenAnotherChunkWouldNotFit) {
  double now = 1000;
  AllocationEnd deadline(600, [&] { return now; });
  EXPECT_FALSE(deadline.time_is_short(100, 10));  // needs 30 + 150 + 20 = 200 of 600
  now = 1399;
  EXPECT_FALSE(deadline.time_is_short(100, 10));
  EXPECT_FALSE(deadline.was_short());
  now = 1401;
  EXPECT_TRUE(deadline.time_is_short(100, 10));
  EXPECT_TRUE(deadline.was_short());
  EXPECT_TRUE(deadline.time_is_short(0, 0));  // once is for good: ranks agree on it later
  AllocationEnd late(20, [&] { return now; });
  EXPECT_TRUE(late.time_is_short(0, 0));
  AllocationEnd none(std::nullopt, [&] { return now; });
  now = 1e12;
  EXPECT_FALSE(none.time_is_short(1e9, 1e9));
}

TEST(DeadlineTest, SlurmsWarningComesInTime) {
  EXPECT_EQ(warning_s(0, 0), 60);
  for (const double chunk : {1.0, 60.0, 900.0})
    EXPECT_GE(double(warning_s(chunk, 5)), 30 + needed_s(chunk, 5));
}

TEST(DeadlineTest, TheEndOfTheAllocation) {
  setenv("TZ", "UTC", 1);
  tzset();
  EXPECT_EQ(slurm_time("2026-11-24T22:40:19\n"), 1795560019);
  for (const char* none : {"", "NONE", "N/A", "Unknown", "2026-11-24"})
    EXPECT_EQ(slurm_time(none), std::nullopt) << none;
  unsetenv("SLURM_JOB_ID");
  EXPECT_EQ(seconds_left_in_job(), std::nullopt);
  setenv("SLURM_JOB_ID", "42", 1);
  setenv("SLURM_JOB_END_TIME", std::to_string(time(nullptr) + 500).c_str(), 1);
  EXPECT_NEAR(seconds_left_in_job().value_or(0), 500, 2);
  unsetenv("SLURM_JOB_END_TIME");
  const Scratch scratch;  // a squeue of ours
  scratch.write("squeue",
                "#!/bin/sh\n[ \"$*\" = '-a -h -j 42 -o %e' ] && echo 2100-01-01T00:00:00\n");
  chmod((scratch.path / "squeue").c_str(), 0755);
  const std::string path = getenv("PATH");
  setenv("PATH", (scratch.path.string() + ":" + path).c_str(), 1);
  EXPECT_NEAR(seconds_left_in_job().value_or(0), 4102444800.0 - double(time(nullptr)), 2);
  setenv("PATH", path.c_str(), 1);
  unsetenv("SLURM_JOB_ID");
}

}  // namespace
}  // namespace svfleet
