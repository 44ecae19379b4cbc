// What `svfleet --help` and `svfleet COMMAND --help` say beside the options: what it is for, and
// examples.
#pragma once

namespace svfleet {

inline constexpr char kAbout[] =
    "svfleet trains expert vectors (one scale for each singular value of each weight) for large "
    "language models by reinforcement learning, alone or over many ranks.";

inline constexpr char kExamples[] = R"(Start here:
  svfleet decompose examples/quickstart.yaml     singular bases of the model, once
  svfleet train     examples/quickstart.yaml     an expert; the same command resumes
  svfleet evaluate  examples/quickstart.yaml --expert EXPERT.safetensors
  svfleet generate  examples/quickstart.yaml --expert EXPERT.safetensors "Which is largest: 3 9 4"

On several ranks, with the same result bit by bit:
  mpirun -n 2 --bind-to none svfleet train examples/quickstart.yaml
  srun --mpi=pmix svfleet train run.yaml
  svfleet submit run.yaml --nodes 8 --partition preemptible    a job that survives preemption
  svfleet status runs/a                          what a run does, from any machine

Exit codes: 0 finished, 2 wrong input, 70 internal error, 74 disk, 75 start me again, 76 no progress.
svfleet COMMAND --help explains a command; svfleet config FILE prints every setting.)";

inline constexpr char kDecomposeFooter[] =
    R"(Shares the matrices among all ranks and writes each to its own file in svd.store, by default
<model.path>.factors. Finished matrices are skipped, so a run that was stopped goes on.

Examples:
  svfleet decompose run.yaml
  svfleet decompose run.yaml --set svd.targets=all --set svd.storage=bfloat16
  mpirun -n 4 --bind-to none svfleet decompose run.yaml)";

inline constexpr char kTrainFooter[] =
    R"(Everything is written to run_dir: checkpoints/, experts/, log.jsonl, rollouts.jsonl, svfleet.log.
When run_dir holds a checkpoint, training goes on from the newest good one, on any number of ranks.
For a new start choose a new run_dir. --fork starts a child run from a checkpoint of another run, with
changed settings; the same command again goes on with the child.

Examples:
  svfleet train run.yaml
  svfleet train run.yaml --set run_dir=runs/seed1 --set train.seed=1
  svfleet train --fork runs/a@20 --set run_dir=runs/b --set train.learning_rate=0.002
  mpirun -n 2 --bind-to none svfleet train run.yaml)";

inline constexpr char kEvaluateFooter[] =
    R"(Prints accuracy with its 95 % interval for the base model and each expert on the same items, and an
exact paired test of each against the base. Several experts also have p adjusted for their number (Holm).
With evaluate.samples above 1, pass@k and majority@k of each item's samples; intervals and tests go by items
then, or by clusters of items that are wordings of one (docs/training.md). When an expert of a run is
measured on the test split, RUN/readings.jsonl counts it. --experts measures all of a set, and with
--strategy a row more: each item answered by the expert that is chosen for it (svfleet adapt --help).

Examples:
  svfleet evaluate run.yaml
  svfleet evaluate run.yaml --expert runs/a/experts/best.safetensors --expert other.safetensors
  svfleet evaluate run.yaml --set evaluate.split=validation --set evaluate.items=200 --json
  svfleet evaluate run.yaml --set evaluate.samples=16 --set evaluate.temperature=1 --out a.jsonl
  svfleet evaluate run.yaml --experts set.yaml --strategy prompt
  svfleet evaluate --from a.jsonl --from b.jsonl)";

inline constexpr char kGenerateFooter[] =
    R"(Prints the answers of the base model and of each expert, as they are produced. A prompt is a user
message to the first task: its system message, prefill, stop texts and length apply, its prompt template
and solved examples do not. evaluate.seed draws, where evaluate.temperature or --temperature is above 0.
With --experts and --adapt, each prompt is also answered by the expert that is chosen for it.

Examples:
  svfleet generate run.yaml "What is the capital of France?"
  svfleet generate run.yaml --json - < questions.txt
  svfleet generate run.yaml --expert runs/a/experts/best.safetensors --temperature 0.7 "Tell a joke"
  svfleet generate run.yaml --experts set.yaml --adapt prompt "Which is largest: 3 9 4")";

inline constexpr char kStatusFooter[] =
    R"(Reads the run folder only: it works while the run goes on and after its end, from any machine that
sees the folder. Shows progress, rate, time left, the last steps, every start with how it ended, and
where the time went.

Examples:
  svfleet status runs/a
  svfleet status runs/a --json)";

inline constexpr char kStopFooter[] =
    R"(The run ends with code 0 after the step that it is in, with a checkpoint, and its job is not started
again. The same train or submit command goes on with it.

Examples:
  svfleet stop runs/a
  svfleet stop runs/a --take-back)";

inline constexpr char kVerifyFooter[] =
    R"(Reads every tensor of the model, every factor, checkpoint, finished chunk and expert of the run, and
compares hashes and checksums. Changes nothing; what is damaged is listed, and the exit code is 74.

Examples:
  svfleet verify run.yaml
  svfleet verify runs/a --json
  mpirun -n 4 --bind-to none svfleet verify run.yaml)";

inline constexpr char kConfigFooter[] =
    R"(Reads and checks FILE and prints the effective configuration: YAML with a comment above every
setting, which can be used as a configuration itself.

Examples:
  svfleet config run.yaml
  svfleet config run.yaml --set train.steps=5 > new.yaml
  svfleet config tasks.yaml --classifier set.yaml --set run_dir=runs/classifier > classifier.yaml
  svfleet config --reference)";

inline constexpr char kHashFooter[] =
    R"(Prints one hash of the content of an expert, a checkpoint, a factor store or a run folder. It does
not depend on names, times or other metadata of files: equal results have equal hashes.

Examples:
  svfleet hash runs/a
  svfleet hash runs/a/checkpoints/step-000048.h5)";

}  // namespace svfleet
