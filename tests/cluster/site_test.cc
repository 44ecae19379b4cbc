// What differs from site to site: options of sbatch, templates and preludes of the batch script.
#include <gmock/gmock.h>

#include <functional>

#include "cluster/job_template.h"
#include "cluster/sbatch_option.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The line of the refusal, or "".
std::string refusal_of(const std::function<void()>& work) {
  try {
    work();
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
    return error.what();
  }
}

TEST(SbatchOptions, WhatBreaksARunIsRefusedInEachSpelling) {
  const std::pair<const char*, const char*> cases[] = {
      {"--array=1-3", "--array"},
      {"array=1-3", "--array"},
      {"--array 1-3", "--array"},
      {"-a 1-3", "--array"},
      {"-a1-3", "--array"},
      {"-a=1-3", "--array"},
      {"--arr=1-3", "--array"},
      {"--a 1-3", "--array"},
      {"arr=1", "--array"},
      {"--signal=KILL@1", "--signal"},
      {"--sig=9", "--signal"},
      {"--requeue", "--requeue"},
      {"--req", "--requeue"},
      {"--no-requeue", "--no-requeue"},
      {"--no-r", "--no-requeue"},
      {"--open-mode=truncate", "--open-mode"},
      {"--op=t", "--open-mode"},
      {"--output=x", "--output"},
      {"-o x", "--output"},
      {"-ox", "--output"},
      {"--out=x", "--output"},
      {"--dependency=singleton", "--dependency"},
      {"-d afterok:1", "--dependency"},
      {"--depend=afterok:1", "--dependency"},
      {"--no-kill", "--no-kill"},
      {"-k", "--no-kill"},
      {"--no-kill=off", "--no-kill"},
      {"--no-ki", "--no-kill"},
      {"--no", "--no-"},
      {"-ko x", "one option a time"},
      {"-Hk", "one option a time"},
      {"-e x", "--error"},
      {"--nodes=3", "--nodes"},
      {"-N3", "--nodes"},
      {"-n 3", "--ntasks"},
      {"--ntasks-per=2", "--ntasks-per"},
      {"-D /", "--chdir"},
      {"--wait", "--wait"},
      {"-M other", "--clusters"},
      {"--test-only", "--test-only"},
      {"", "no option of sbatch"},
      {"--", "no option of sbatch"},
      {"-", "no option of sbatch"},
      {"--- x", "no option of sbatch"},
      {"-Z", "no option of sbatch"},
      {"--Array=1", "no option of sbatch"},
      {"--comment=a\n#SBATCH -a1", "control character"},
      {"--comment=\"a\" --array=1", "quote"}};
  for (const auto& [text, expected] : cases) {
    const std::string line = refusal_of([&, text = text] { sbatch_option(text, "--sbatch"); });
    EXPECT_THAT(line, AllOf(HasSubstr("--sbatch '"), HasSubstr(expected))) << text;
  }
}

// sbatch takes the next line of the script for the value: '#SBATCH --comment' above
// '#SBATCH --job-name=x' makes a job without a name whose comment is '--job-name=x'.
TEST(SbatchOptions, AValueThatIsMissingIsRefused) {
  for (const char* text :
       {"--account", "account", "--account=", "--account= ", "-A", "-A ", "--gres", "--reservation",
        "--comment", "comment=", "--export", "-L", "-w", "--mail-user", "--site-plugin="})
    EXPECT_THAT(
        refusal_of([&] { sbatch_option(text, "--sbatch"); }),
        AllOf(HasSubstr("--sbatch '" + std::string(text) + "' has no value"), HasSubstr("=VALUE")))
        << text;
  for (const char* text : {"--exclusive", "-H", "--oversubscribe", "-s", "--nice", "--propagate",
                           "--get-user-env", "--contiguous", "--container-mount-home"})
    EXPECT_EQ(refusal_of([&] { sbatch_option(text, "--sbatch"); }), "") << text;
}

// The control: what a site or a user may ask for, as it stands in the script.
TEST(SbatchOptions, OthersReachTheScript) {
  const std::pair<const char*, const char*> cases[] = {
      {"--reservation=spring", "#SBATCH --reservation=spring"},
      {"reservation=spring", "#SBATCH --reservation=spring"},
      {"--reservation spring", "#SBATCH --reservation=spring"},
      {"-L lic:2", "#SBATCH --licenses=lic:2"},
      {"-Llic:2", "#SBATCH --licenses=lic:2"},
      {"-w n[1-3]", "#SBATCH --nodelist=\"n[1-3]\""},
      {"--mail-type=END,FAIL", "#SBATCH --mail-type=END,FAIL"},
      {"--export=NONE", "#SBATCH --export=NONE"},
      {"--comment=two words # and more", "#SBATCH --comment=\"two words # and more\""},
      {"--comment=x --array=1", "#SBATCH --comment=\"x --array=1\""},  // one word for sbatch
      {"comment=the site's", "#SBATCH --comment=\"the site's\""},
      {"exclusive", "#SBATCH --exclusive"},
      {"-H", "#SBATCH --hold"},
      {"--time-min=1:00:00", "#SBATCH --time-min=1:00:00"},
      {"--wait-all-nodes=1", "#SBATCH --wait-all-nodes=1"}};
  for (const auto& [text, line] : cases)
    EXPECT_EQ(sbatch_line(sbatch_option(text, "--sbatch")), line);
}

TEST(SbatchOptions, ThoseOfSubmitAreSubmits) {
  JobRequest ask;
  bool contradicts = false;
  EXPECT_TRUE(adopt(sbatch_option("-p low", ""), ask, &contradicts));
  EXPECT_TRUE(adopt(sbatch_option("gres=gpu:4", ""), ask, &contradicts));
  EXPECT_EQ(ask.partition, "low");
  EXPECT_EQ(ask.gres, "gpu:4");
  EXPECT_FALSE(contradicts);
  EXPECT_TRUE(adopt(sbatch_option("gres=gpu:2", ""), ask, &contradicts));
  EXPECT_TRUE(contradicts);
  EXPECT_EQ(ask.gres, "gpu:4");
  EXPECT_FALSE(adopt(sbatch_option("reservation=x", ""), ask, &contradicts));
}

constexpr char kSite[] =
    "#!/bin/bash -l\n"
    "# our cluster\n"
    "#SBATCH --account=physics\n"
    "# @SBATCH@\n"
    "\n"
    "program=@PROGRAM@; words=(@ARGUMENTS@)\n"
    "# @PRELUDE@\n"
    "mpiexec @MPI@ $program\n";
const std::map<std::string, Place> kPlaces = {
    {"SBATCH", {"#SBATCH --nodes=2\n#SBATCH --requeue", true, true}},
    {"PROGRAM", {"'/opt/it'\\''s @MPI@'"}},
    {"ARGUMENTS", {"'train' 'a b'"}},
    {"PRELUDE", {"", false, true}},
    {"MPI", {"--mpi=pmix", false}}};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(Templates, AreFilledOnce) {
  EXPECT_EQ(fill_template(kSite, "site.sh", kPlaces),
            "#!/bin/bash -l\n# our cluster\n#SBATCH --account=physics\n#SBATCH --nodes=2\n"
            "#SBATCH --requeue\n\nprogram='/opt/it'\\''s @MPI@'; words=('train' 'a b')\n"
            "mpiexec --mpi=pmix $program\n");
  auto places = kPlaces;
  places.at("PRELUDE") = {"module load x\n", true, true};
  EXPECT_THAT(fill_template(kSite, "site.sh", places), HasSubstr("\nmodule load x\nmpiexec"));
}

TEST(Templates, AreRefusedByNameAndLine) {
  const auto said = [](const std::string& text) {
    return refusal_of([&] { fill_template(text, "site.sh", kPlaces); });
  };
  EXPECT_EQ(said(kSite), "");
  EXPECT_THAT(
      said(replaced(kSite, "@PROGRAM@", "@PROGRAMM@")),
      HasSubstr("site.sh:6: @PROGRAMM@ is no place of a job template; there are: ARGUMENTS"));
  EXPECT_THAT(said(replaced(kSite, "@ARGUMENTS@", "train")), HasSubstr("@ARGUMENTS@ is missing"));
  EXPECT_THAT(said(replaced(kSite, "# @SBATCH@\n", "")), HasSubstr("'# @SBATCH@' is missing"));
  EXPECT_EQ(said(replaced(kSite, "# @PRELUDE@\n", "")), "");  // nobody asked for one
  EXPECT_EQ(said(replaced(kSite, "@MPI@", "--mpi=pmi2")), "");
  EXPECT_THAT(said(replaced(kSite, "program=@", "program=\"@")), HasSubstr("site.sh:6: @PROGRAM@"));
  EXPECT_THAT(said(replaced(kSite, "program=", "#program=")),
              HasSubstr("site.sh:6: @PROGRAM@ stands in a comment"));
  EXPECT_THAT(said(replaced(kSite, "# our cluster", "module load x")),
              HasSubstr("site.sh:3: '#SBATCH --account=physics' stands below a command"));
  EXPECT_THAT(said(replaced(kSite, "#SBATCH --account=physics", "umask 027")),
              HasSubstr("site.sh:4: '# @SBATCH@' stands below a command"));
  EXPECT_THAT(said(replaced(kSite, "mpiexec", "mpiexec # @PRELUDE@")),
              HasSubstr("site.sh:8: @PRELUDE@ stands for lines"));
  EXPECT_THAT(said(std::string(kSite).substr(5)), HasSubstr("site.sh:1: a batch script begins"));
  EXPECT_THAT(said(""), HasSubstr("is missing"));
}

TEST(Templates, TheirOwnOptionsAreCheckedToo) {
  const auto said = [](const std::string& text, JobRequest ask = {}) {
    return refusal_of([&] { adopt_template_options(text, "site.sh", ask); });
  };
  JobRequest ask;
  adopt_template_options(kSite, "site.sh", ask);
  EXPECT_EQ(ask.account, "physics");
  ask.account = "chemistry";  // who submits has the last word
  adopt_template_options(kSite, "site.sh", ask);
  EXPECT_EQ(ask.account, "chemistry");
  EXPECT_THAT(said(replaced(kSite, "--account=physics", "--array=1-3")),
              HasSubstr("site.sh:3: '--array=1-3' is refused: --array"));
  EXPECT_THAT(said(replaced(kSite, "--account=physics", "-p low -N 3")),
              HasSubstr("site.sh:3: '#SBATCH -p low -N 3': write one option a line"));
  EXPECT_THAT(said(replaced(kSite, "#SBATCH", "#PBS")), HasSubstr("site.sh:3:"));
  EXPECT_THAT(said(replaced(kSite, "# @SBATCH@\n", "# @SBATCH@\n#SBATCH --qos=x\n")),
              HasSubstr("site.sh:5: '#SBATCH --qos=x' would override"));
  EXPECT_EQ(said(default_template()), "");
}

TEST(Preludes, HoldNoOptionsOfSbatch) {
  EXPECT_EQ(refusal_of([] { check_prelude("module load x\n# SBATCH\n", "pre.sh"); }), "");
  EXPECT_THAT(refusal_of([] { check_prelude("module load x\n#SBATCH -p a\n", "pre.sh"); }),
              HasSubstr("pre.sh:2: '#SBATCH -p a' would be passed over"));
  EXPECT_THAT(refusal_of([] { check_prelude("module load x\r\n", "pre.sh"); }),
              HasSubstr("pre.sh:1: the line ends as on Windows"));
}

}  // namespace
}  // namespace svfleet
