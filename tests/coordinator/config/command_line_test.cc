// What each command line means, and the one line that a wrong one gives.
#include <gmock/gmock.h>

#include <fstream>
#include <iterator>

#include "comm/error.h"
#include "coordinator/config/command_line.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

CommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "svfleet");
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

std::string error_of(const std::vector<const char*>& words) {
  try {
    parse(words);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), kExitUser);
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  return "no error";
}

TEST(CommandLine, Commands) {
  CommandLine line = parse({"train", "run.yaml", "--set", "a=1", "--json", "--set", "b=x y"});
  EXPECT_EQ(line.text, "");
  EXPECT_EQ(line.command, Command::kTrain);
  EXPECT_EQ(line.config_file, "run.yaml");
  EXPECT_THAT(line.overrides, ElementsAre("a=1", "b=x y"));
  EXPECT_TRUE(line.json);
  EXPECT_FALSE(line.allow_different_hardware);

  line = parse({"decompose", "--set", "svd.targets=all", "run.yaml"});
  EXPECT_EQ(line.command, Command::kDecompose);
  EXPECT_EQ(line.config_file, "run.yaml");

  line = parse({"evaluate", "--expert", "a", "run.yaml", "--expert", "b", "--out", "o"});
  EXPECT_EQ(line.command, Command::kEvaluate);
  EXPECT_EQ(line.config_file, "run.yaml");
  EXPECT_THAT(line.experts, ElementsAre("a", "b"));
  EXPECT_EQ(line.out, "o");

  line = parse({"generate", "run.yaml", "--expert", "a", "Hello, you", "--max-new-tokens", "9",
                "--temperature", "0.5", "again"});
  EXPECT_EQ(line.command, Command::kGenerate);
  EXPECT_THAT(line.prompts, ElementsAre("Hello, you", "again"));
  EXPECT_EQ(line.max_new_tokens, 9);
  EXPECT_EQ(line.temperature, 0.5);

  line =
      parse({"export", "run.yaml", "--expert", "e", "--format", "peft", "--max-rank", "8", "out"});
  EXPECT_EQ(line.command, Command::kExport);
  EXPECT_THAT(line.experts, ElementsAre("e"));
  EXPECT_EQ(line.share.format, "peft");
  EXPECT_EQ(line.share.max_rank, 8);
  EXPECT_EQ(line.out, "out");
  line = parse({"rebase", "run.yaml", "--expert", "e", "--store", "s", "out", "--json"});
  EXPECT_EQ(line.command, Command::kRebase);
  EXPECT_EQ(line.share.store, "s");
  line = parse({"transfer", "run.yaml", "--expert", "e", "--control", "reversed", "out"});
  EXPECT_EQ(line.command, Command::kTransfer);
  EXPECT_EQ(line.share.control, "reversed");

  line = parse({"adapt", "run.yaml", "--experts", "s.yaml", "--strategy", "few_shot", "--shots",
                "k", "--budget", "light", "--most", "1.5", "--out", "o"});
  EXPECT_EQ(line.command, Command::kAdapt);
  EXPECT_EQ(line.adapt.set, "s.yaml");
  EXPECT_EQ(line.adapt.strategy, "few_shot");
  EXPECT_EQ(line.adapt.shots, "k");
  EXPECT_EQ(line.adapt.budget, "light");
  EXPECT_EQ(line.adapt.most, 1.5);
  EXPECT_EQ(line.out, "o");
  EXPECT_EQ(parse({"generate", "r", "--experts", "s", "--adapt", "prompt", "p"}).adapt.strategy,
            "prompt");
  EXPECT_EQ(parse({"evaluate", "r", "--experts", "s"}).adapt.strategy, "");

  line = parse({"config", "run.yaml"});
  EXPECT_EQ(line.command, Command::kConfig);
  EXPECT_FALSE(line.max_new_tokens.has_value());
  EXPECT_TRUE(parse({"config", "--reference"}).reference);

  line = parse({"verify", "run.yaml", "--json"});
  EXPECT_EQ(line.command, Command::kVerify);
  EXPECT_EQ(line.config_file, "run.yaml");

  line = parse({"hash", "runs/a", "--json"});
  EXPECT_EQ(line.command, Command::kHash);
  EXPECT_EQ(line.path, "runs/a");
  EXPECT_TRUE(line.json);

  EXPECT_TRUE(parse({"train", "r", "--allow-different-hardware"}).allow_different_hardware);
  line = parse({"train", "--fork", "runs/a@20", "--set", "run_dir=runs/b"});
  EXPECT_EQ(line.fork, "runs/a@20");
  EXPECT_EQ(line.config_file, "");
  EXPECT_EQ(parse({"submit", "r", "--fork", "runs/a"}).fork, "runs/a");
  // A comma in a value is a part of it, not a separator.
  EXPECT_THAT(parse({"train", "r", "--set", "svd.targets=a,b"}).overrides,
              ElementsAre("svd.targets=a,b"));
}

TEST(CommandLine, HelpAndVersion) {
  EXPECT_EQ(parse({"--version"}).text.substr(0, 8), "svfleet ");
  EXPECT_EQ(parse({"-v"}).text, parse({"--version"}).text);
  EXPECT_THAT(parse({"--help"}).text, HasSubstr("mpirun -n 2 --bind-to none svfleet train"));
  for (const char* name :
       {"decompose", "train", "evaluate", "generate", "adapt", "export", "rebase", "transfer",
        "submit", "after-run", "status", "stop", "verify", "config", "hash"}) {
    const std::string help = parse({name, "--help"}).text;
    EXPECT_THAT(help, HasSubstr(std::string("Usage: svfleet ") + name));
    EXPECT_THAT(help, HasSubstr(std::string("  svfleet ") + name + " "));  // an example
    EXPECT_THAT(parse({"--help"}).text, HasSubstr(std::string("  ") + name + " "));
  }
}

TEST(CommandLine, HelpSaysNothingThatDoesNotHold) {
  EXPECT_THAT(parse({"evaluate", "--help"}).text, Not(HasSubstr("FILE ...")));
  EXPECT_THAT(parse({"evaluate", "--help"}).text, Not(HasSubstr("VALUE ...")));
  EXPECT_THAT(parse({"submit", "--help"}).text, Not(HasSubstr("{false}")));
}

TEST(Reference, IsThePageOfCommandsInDocs) {
  std::ifstream page(std::string(SVFLEET_SOURCE_DIR) + "/docs/commands.md");
  const std::string text{std::istreambuf_iterator<char>(page), {}};
  EXPECT_EQ(parse({"--reference"}).text, text)
      << "write it anew with svfleet --reference > docs/commands.md";
}

TEST(CommandLine, HelpIsAWordToo) {
  EXPECT_EQ(parse({"help"}).text, parse({"--help"}).text);
  EXPECT_EQ(parse({"help", "train"}).text, parse({"train", "--help"}).text);
  EXPECT_EQ(error_of({"help", "trian"}),
            "unknown command 'trian', did you mean 'train'?; see svfleet --help");
}

TEST(CommandLine, ASlipOfAnOptionIsAnsweredWithTheNearestOne) {
  EXPECT_EQ(error_of({"evaluate", "r", "--exprt", "e"}),
            "The following arguments were not expected: --exprt e, did you mean --expert?; see "
            "svfleet evaluate --help");
  EXPECT_THAT(error_of({"train", "r", "--forck=e"}), HasSubstr("did you mean --fork?"));
  EXPECT_THAT(error_of({"submit", "r", "--node", "2"}), HasSubstr("did you mean --nodes?"));
  EXPECT_EQ(error_of({"--hepl"}),
            "unknown option '--hepl', did you mean --help?; see svfleet --help");
  EXPECT_EQ(error_of({"--quiet", "train", "r"}),
            "The following argument was not expected: --quiet; give --quiet after 'train'; see "
            "svfleet train --help");
  EXPECT_THAT(error_of({"train", "r", "--zzzzzz"}), Not(HasSubstr("did you mean")));
}

TEST(CommandLine, WrongUsageIsOneLine) {
  EXPECT_EQ(error_of({"train", "r"}), "no error");
  EXPECT_EQ(error_of({}), "no command was given; see svfleet --help");
  EXPECT_EQ(error_of({"trian", "r"}),
            "unknown command 'trian', did you mean 'train'?; see svfleet --help");
  EXPECT_EQ(error_of({"train"}), "CONFIG is required; see svfleet train --help");
  EXPECT_EQ(error_of({"config"}), "CONFIG is required; see svfleet config --help");
  EXPECT_EQ(error_of({"submit"}), "CONFIG is required; see svfleet submit --help");
  EXPECT_EQ(error_of({"generate", "r"}), "PROMPT is required; see svfleet generate --help");
  EXPECT_EQ(error_of({"hash"}), "PATH is required; see svfleet hash --help");
  EXPECT_EQ(error_of({"train", "r", "s"}),
            "The following argument was not expected: s; see svfleet train --help");
  EXPECT_EQ(error_of({"train", "r", "--expert", "e"}),
            "The following arguments were not expected: --expert e; see svfleet train --help");
  EXPECT_EQ(
      error_of({"submit", "r", "--array", "0-3", "--nodes", "2", "--export=ALL"}),
      "The following arguments were not expected: --array 0-3 --export=ALL; see svfleet submit "
      "--help");
  EXPECT_EQ(error_of({"evaluate", "r", "--expert", "a", "b"}),
            "The following argument was not expected: b; see svfleet evaluate --help");
  for (const std::vector<const char*>& words :
       {std::vector<const char*>{"evaluate", "r", "--expert"},
        {"train", "r", "--set"},
        {"generate", "r", "p", "--temperature", "hot"},
        {"generate", "r", "p", "--temperature", "nan"},
        {"generate", "r", "p", "--temperature", "-1"},
        {"generate", "r", "p", "--max-new-tokens", "0"},
        {"generate", "r", "p", "--max-new-tokens", "1.5"},
        {"hash", "a", "--set", "b=1"},
        {"export", "r", "o", "--format", "peft"},
        {"export", "r", "--expert", "e", "--format", "peft"},
        {"export", "r", "o", "--expert", "e", "--format", "gguf"},
        {"export", "r", "o", "--expert", "e", "--expert", "f", "--format", "peft"},
        {"export", "r", "", "--expert", "e", "--format", "peft"},
        {"export", "r", "o", "--expert", "e", "--format", "peft", "--max-rank", "0"},
        {"rebase", "r", "o", "--expert", "e"},
        {"transfer", "r", "o", "--expert", "e", "--control", "mirrored"},
        {"--jsn"}}) {
    EXPECT_NE(error_of(words), "no error") << words.back();
    EXPECT_THAT(error_of(words), HasSubstr("; see svfleet "));
  }
}

TEST(CommandLine, ExpertsThatAreMeasured) {
  EXPECT_EQ(error_of({"adapt", "r", "--experts", "s", "--strategy", "few_shot"}),
            "few_shot searches with solved examples: give --shots FILE; see svfleet adapt --help");
  EXPECT_THAT(error_of({"adapt", "r", "--experts", "s", "--strategy", "guess"}),
              HasSubstr("'guess' is none of: prompt, classifier, few_shot"));
  EXPECT_THAT(error_of({"adapt", "r", "--experts", "s", "--strategy", "prompt", "--out", "o"}),
              HasSubstr("--out keeps the mixture"));
  EXPECT_THAT(error_of({"evaluate", "r", "--strategy", "prompt"}), HasSubstr("give --experts SET"));
  EXPECT_THAT(error_of({"generate", "r", "--experts", "s", "--shots", "k", "p"}),
              HasSubstr("belong to --adapt few_shot"));
  EXPECT_THAT(error_of({"adapt", "r", "--strategy", "prompt"}), HasSubstr("--experts is required"));
  EXPECT_EQ(error_of({"evaluate", "r", "--controls"}),
            "--controls are made of an expert: give --expert FILE; see svfleet evaluate --help");
  EXPECT_EQ(error_of({"evaluate", "r", "--controls", "--expert", "a"}), "no error");
  EXPECT_EQ(error_of({"evaluate", "r", "--expert", "a", "--expert", "b", "--expert", "./a"}),
            "--expert './a' is given twice, first as 'a'; leave one out");
  EXPECT_EQ(error_of({"generate", "r", "p", "--expert", "a", "--expert", "a"}),
            "--expert 'a' is given twice; leave one out");
}

TEST(CommandLine, Submit) {
  CommandLine line = parse({"submit", "run.yaml", "--nodes", "8", "--cpus-per-task", "4", "--time",
                            "8:00:00", "--gres", "gpu:4", "--chain", "3", "--set", "a=1"});
  EXPECT_EQ(line.command, Command::kSubmit);
  EXPECT_EQ(line.config_file, "run.yaml");
  EXPECT_THAT(line.overrides, ElementsAre("a=1"));
  EXPECT_EQ(line.job.nodes, 8);
  EXPECT_EQ(line.job.ranks_per_node, 1);
  EXPECT_EQ(line.job.cpus_per_task, 4);
  EXPECT_EQ(line.job.time, "8:00:00");
  EXPECT_EQ(line.job.gres, "gpu:4");
  EXPECT_EQ(line.job.chain, 3);
  EXPECT_TRUE(line.job.requeue);
  EXPECT_FALSE(line.dry_run);
  line = parse({"submit", "run.yaml", "--constraint", "[a|b]", "--exclude", "n[3-5]"});
  EXPECT_EQ(line.job.constraint, "[a|b]");
  EXPECT_EQ(line.job.exclude, "n[3-5]");
  line = parse({"submit", "run.yaml", "--no-requeue", "--dry-run", "--allow-local"});
  EXPECT_FALSE(line.job.requeue);
  EXPECT_TRUE(line.dry_run);
  EXPECT_TRUE(line.job.allow_local);
  EXPECT_THAT(error_of({"submit", "run.yaml", "--nodes", "0"}), HasSubstr("--nodes"));
  EXPECT_THAT(error_of({"submit"}), HasSubstr("CONFIG"));

  line = parse({"after-run", "runs/a", "--job", "12", "--restarts", "2", "--store", "s"});
  EXPECT_EQ(line.command, Command::kAfterRun);
  EXPECT_EQ(line.path, "runs/a");
  EXPECT_EQ(line.after_job, "12");
  EXPECT_EQ(line.after_restarts, 2);
  EXPECT_EQ(line.store, "s");
  EXPECT_EQ(line.job.patience, 3);
  EXPECT_THAT(error_of({"after-run", "runs/a", "--job", "12"}), HasSubstr("--restarts"));
}

}  // namespace
}  // namespace svfleet
