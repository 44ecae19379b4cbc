// The batch script: what Slurm and bash make of it, with stand-ins for Slurm's commands.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

#include "cluster/job_script.h"
#include "tests/cluster/scratch.h"

namespace svfleet {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

JobScript example() {
  JobScript job;
  job.request.nodes = 8;
  job.request.cpus_per_task = 4;
  job.request.partition = "low";
  job.request.name = "svfleet-a";
  job.program = "/opt/it's here/svfleet";
  job.libraries = {"/opt/torch lib", "/opt/mpi/lib"};
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
        "#SBATCH --cpus-per-task=4\n", "#SBATCH --requeue\n", "#SBATCH --output=/dev/null\n",
        "#SBATCH --signal=B:USR1@60\n", "#SBATCH --chdir=\"/data/a#b\"\n",
        "#SBATCH --constraint=\"[a|b]&c*2\"\n", "#SBATCH --exclude=\"n[3-5]\"\n",
        "srun --mpi=pmix --kill-on-bad-exit=1 --chdir=\"$folder\" ", "again=requeue "})
    EXPECT_THAT(script, HasSubstr(line));
  EXPECT_THAT(script, Not(HasSubstr("--account")));
  EXPECT_THAT(script, Not(HasSubstr("--time")));
  EXPECT_THAT(script, Not(HasSubstr("singleton")));
  EXPECT_THAT(script, Not(ContainsRegex("@[A-Z_]+@")));
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
  const auto with_restarts = [&](const std::string& as_slurm_knows) {
    std::string script = job_script(job);
    script.insert(script.find("\nstep="),
                  "\nsrun() { :; }\nsleep() { :; }\nenv() { return 75; }\nscontrol() {\n"
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
// what the program does as after-run, `probe` what srun does for the empty steps before the run's,
// `ranks` what it does for those.
struct Ran {
  std::string out;
  bool asked;  // for another start
  int code;
};
Ran run_job(const std::string& after_run, int restarts, const std::string& probe = ":",
            JobScript job = example(), const std::string& ranks = ":",
            const std::function<std::string(std::string)>& altered = {}) {
  const Scratch scratch;
  const auto program = [&](const std::string& name, const std::string& body) {
    scratch.write("bin/" + name, "#!/bin/bash\n" + body + "\n");
    chmod((scratch.path / "bin" / name).c_str(), 0755);
  };
  program("srun", "case \"$*\" in *' true') " + probe +
                      " ;; *) printf 'ranks started '; printf '<%s>' \"$@\"; "
                      "echo; echo \"start $SVFLEET_START\"; " +
                      ranks + " ;; esac");
  program("scontrol",
          "if [ $1 = requeue ]; then echo requeue asked; elif [ $1 = update ]; then echo \"<$*>\"; "
          "else echo \"JobState=RUNNING "
          "Restarts=$SLURM_RESTART_COUNT BatchFlag=1\"; fi");
  program("scancel", "echo chain cancelled");
  program("sleep", ":");
  program("program", after_run);
  if (after_run.empty()) fs::remove(scratch.path / "bin/program");
  job.program = scratch.path / "bin/program";
  scratch.write("job.sh", altered ? altered(job_script(job)) : job_script(job));
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
  // Nor does one that finds the run in the hands of another job end it.
  EXPECT_THAT(run_job("echo plan leave; exit 2", 0, ":", chain).out,
              Not(HasSubstr("chain cancelled")));
  EXPECT_THAT(run_job("echo plan end; exit 2", 0, ":", chain).out, HasSubstr("chain cancelled"));
}

// after-run: a host's own fault at first, then the end.
const std::string kOneFault =
    "[[ $* != *--not-again* ]] || exit 75\nseen=${0%/*}/seen\n"
    "if [ -e $seen ]; then echo plan end; echo finished; exit 0; fi\n"
    "touch $seen; echo plan again 7 n3,n4; echo \"<$*>\"; exit 75";

TEST(JobScriptText, AHostsFaultStartsTheRanksAgainInTheSameAllocation) {
  JobScript job = example();
  job.request.ranks_per_node = 2;
  job.request.exclude = "n[8-9]";
  const Ran ran = run_job(kOneFault, 0, ":", job);
  EXPECT_FALSE(ran.asked);
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, ContainsRegex("<--cpus-per-task=4><env>.*start 0"));
  EXPECT_THAT(ran.out, HasSubstr("--start 0 --plan"));
  EXPECT_THAT(ran.out, HasSubstr("--nodes 8 --exclude n[8-9]"));
  EXPECT_THAT(ran.out, ContainsRegex("<--cpus-per-task=4><--nodes=7><--ntasks=14>"
                                     "<--exclude=n3,n4><env>.*start 1"));
  EXPECT_THAT(ran.out, HasSubstr("starting again on 7 nodes of this allocation, without n3,n4"));
  // What belongs to a restart of the job stays with it: another start in an allocation that ends
  // would only be stopped.
  const Ran warned = run_job(kOneFault, 0, ":", job, "kill -USR1 $JOB_SHELL");
  EXPECT_TRUE(warned.asked);
  EXPECT_THAT(warned.out, Not(HasSubstr("start 1")));
}

TEST(JobScriptText, ARequeueLeavesOutWhatItIsTold) {
  JobScript job = example();
  job.request.exclude = "n[8-9]";
  EXPECT_THAT(run_job("echo plan requeue n8,n9,n3; exit 75", 0, ":", job).out,
              HasSubstr("<update JobId=7 ExcNodeList=n8,n9,n3>"));
  // Taken back at the next requeue for another reason.
  EXPECT_THAT(run_job("echo plan requeue -; exit 75", 0).out,
              HasSubstr("<update JobId=7 ExcNodeList=>"));
  EXPECT_THAT(run_job("exit 1", 0, ":", job).out, HasSubstr("<update JobId=7 ExcNodeList=n[8-9]>"));
}

// As on a disk that hangs: nothing is said before the job is safe, and after-run is not waited for.
TEST(JobScriptText, AHungAfterRunDoesNotHoldTheJob) {
  const auto faster = [](std::string script) {
    for (const auto& [slow, fast] : {std::pair{"-k 5 30", "-k 1 1"}, {"-t 40", "-t 3"}}) {
      EXPECT_NE(script.find(slow), script.npos);
      script.replace(script.find(slow), strlen(slow), fast);
    }
    return script;
  };
  const Ran hung = run_job("timeout 20 tail -f /dev/null & wait", 0, ":", example(), ":", faster);
  EXPECT_TRUE(hung.asked);
  EXPECT_THAT(hung.out, ContainsRegex("requeue asked.*srun ended with"));
  EXPECT_THAT(run_job("echo plan requeue -; echo why; exit 75", 0).out,
              ContainsRegex("requeue asked.*why.*srun ended with"));
}

// Is the job asked for again when its ranks have printed into RUN/slurm-7.out, which `make` makes
// and `meanwhile` spoils while they run?
bool asks_again(const std::function<void(const std::string&)>& make,
                const std::function<void()>& meanwhile) {
  const Scratch scratch;
  const std::string at = scratch.path.string();
  const auto program = [&](const std::string& name, const std::string& body) {
    scratch.write("bin/" + name, "#!/bin/bash\n" + body + "\n");
    chmod((scratch.path / "bin" / name).c_str(), 0755);
  };
  program("srun", "[ $SVFLEET_START = 0 ] || exit 75\ntouch " + at + "/began\nuntil [ -e " + at +
                      "/spoiled ]; do sleep 0.05; done\necho the last words; exit 75");
  program("scontrol", "if [ $1 = requeue ]; then touch " + at +
                          "/asked; else echo 'JobState=RUNNING Restarts=0 BatchFlag=1'; fi");
  program("program", "echo why; [[ $* = *'--start 0'* ]] && echo plan again 7 n3; exit 75");
  JobScript job = example();
  job.program = at + "/bin/program";
  job.run_dir = at;
  scratch.write("job.sh", job_script(job));
  make(at + "/slurm-7.out");
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    signal(SIGPIPE, SIG_DFL);
    setenv("PATH", (at + "/bin:" + getenv("PATH")).c_str(), 1);
    setenv("SLURM_JOB_ID", "7", 1);
    execlp("bash", "bash", (at + "/job.sh").c_str(), nullptr);
    _exit(127);
  }
  const auto happens = [&](const char* file) {
    for (int tenth = 0; tenth < 300 && !fs::exists(scratch.path / file); ++tenth) usleep(100000);
    return fs::exists(scratch.path / file);
  };
  EXPECT_TRUE(happens("began"));
  meanwhile();
  scratch.write("spoiled", "");
  const bool asked = happens("asked");
  kill(-child, SIGKILL);
  waitpid(child, nullptr, 0);
  return asked;
}

// Nor does srun, which prints what the ranks have said in the end: not a byte more goes into the
// job's output. And a disk that fails costs the output, not the script, which would die of SIGPIPE.
TEST(JobScriptText, AnOutputThatHangsOrFailsDoesNotHoldTheJob) {
  int reader = -1, filler = -1;
  EXPECT_TRUE(asks_again(
      [&](const std::string& output) {
        ASSERT_EQ(mkfifo(output.c_str(), 0666), 0);
        reader = open(output.c_str(), O_RDONLY | O_NONBLOCK);  // and never reads
        filler = open(output.c_str(), O_WRONLY | O_NONBLOCK);
      },
      [&] {
        while (write(filler, "x", 1) == 1) continue;
      }));
  close(filler);
  close(reader);
  EXPECT_TRUE(asks_again([](const std::string& output) { fs::create_symlink("/dev/full", output); },
                         [] {}));
}

TEST(JobScriptText, APreludeMayUseTheScriptsNames) {
  JobScript job = example();
  job.request.site.prelude = "nodes='n1 n2'; again=x; program=x; arguments=(x); decision=x\n";
  const Ran ran = run_job("echo \"$@\"; exit 75", 0, ":", job);
  EXPECT_THAT(ran.out, HasSubstr("--nodes 8 --exclude"));
  EXPECT_TRUE(ran.asked);
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

TEST(JobScriptText, ASitesLauncherPreludeAndContainer) {
  JobScript job = example();
  job.command = {"train", "a b"};
  const auto started = [&] {  // what srun gets for the ranks
    const std::string out = run_job("exit 0", 0, ":", job).out;
    const size_t begin = out.find("ranks started");
    return out.substr(begin, out.find('\n', begin) - begin);
  };
  EXPECT_THAT(started(),
              ContainsRegex("^ranks started <--mpi=pmix>.*<--cpus-per-task=4><env>"
                            "<LD_LIBRARY_PATH=/opt/torch lib:/opt/mpi/lib[^>]*><[^<]*/program>"
                            "<train><a b>$"));
  job.request.site.mpi = "pmi2";
  EXPECT_THAT(started(), HasSubstr("<--mpi=pmi2>"));
  job.request.site.mpi = "default";
  EXPECT_THAT(started(), Not(HasSubstr("--mpi")));
  // A prelude that stops at the first fault must not make the script do so later.
  job.request.site.prelude =
      "set -euo pipefail\nsrun_options=(--container-image=a.sqsh)\nwithin=(stand-in exec --nv 'b "
      "c.sif')\n"
      "echo \"prelude of $run_dir\"\n";
  EXPECT_THAT(started(), ContainsRegex("<--container-image=a.sqsh><stand-in><exec><--nv><b c.sif>"
                                       "<env><LD_[^<]*><[^<]*/program><train><a b>$"));
  const Ran ran = run_job("false", 3, "false", job);
  EXPECT_THAT(ran.out, HasSubstr("prelude of /data/runs/a\n"));
  EXPECT_TRUE(ran.asked) << ran.out;
  job.request.site.options = {{"reservation", "spring"}};
  const std::string script = job_script(job);
  EXPECT_LT(script.find("#SBATCH --reservation=spring\n"), script.find("\nprogram="));
}

TEST(JobScriptText, TheProgramFindsTheLibrariesOfTheSubmissionFirst) {
  const auto path = [](const char* of_job) {
    JobScript job = example();
    job.request.site.prelude = std::string("export LD_LIBRARY_PATH=") + of_job + "\n";
    return run_job("echo \"<$LD_LIBRARY_PATH>\"", 0, ":", job).out;
  };
  EXPECT_THAT(path(""), HasSubstr("</opt/torch lib:/opt/mpi/lib>\n"));
  EXPECT_THAT(path("/modules/lib"), HasSubstr("</opt/torch lib:/opt/mpi/lib:/modules/lib>\n"));
  JobScript job = example();  // an empty entry would be the working directory
  job.libraries = {};
  job.request.site.prelude = "export LD_LIBRARY_PATH=/modules/lib\n";
  EXPECT_THAT(run_job("echo \"<$LD_LIBRARY_PATH>\"", 0, ":", job).out,
              HasSubstr("</modules/lib>\n"));
}

TEST(JobScriptText, ChainsAndJobsThatAreNotRequeued) {
  JobScript job = example();
  job.request.chain = 3;
  std::string script = job_script(job);
  EXPECT_THAT(script,
              Not(HasSubstr("dependency")));  // of the sbatch call: see submit_slurm_test.py
  EXPECT_THAT(script, HasSubstr("#SBATCH --no-requeue\n"));
  EXPECT_THAT(run_job("exit 0", 0, ":", job).out, HasSubstr("chain cancelled"));
  EXPECT_FALSE(run_job("exit 75", 0, ":", job).asked);
  job.request.chain = 1;
  job.request.requeue = false;
  script = job_script(job);
  EXPECT_THAT(script, HasSubstr("#SBATCH --no-requeue\n"));
  const Ran ran = run_job("echo \"$@\"; exit 75", 0, ":", job);
  EXPECT_FALSE(ran.asked);
  EXPECT_EQ(ran.code, 75);
  EXPECT_EQ(run_job("kill -9 $$", 0, ":", job).code, 75);  // nothing was decided
  EXPECT_THAT(ran.out, HasSubstr("--restarts 0 --start 0 --not-again"));
  EXPECT_THAT(ran.out, Not(HasSubstr("chain cancelled")));
  // The controls: what may be requeued is, and no chain stands behind it.
  EXPECT_TRUE(run_job("exit 75", 0).asked);
  EXPECT_THAT(run_job("exit 0", 0).out, Not(HasSubstr("chain cancelled")));
}

}  // namespace
}  // namespace svfleet
