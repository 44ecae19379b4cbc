#include "coordinator/config/fields.h"

#include <charconv>
#include <cmath>

#include "worker/tokenizer/chat_template.h"

namespace svfleet {
namespace {

Limits between(double low, double high) {
  return {.low = low, .high = high};
}
Limits at_least(double low) {
  return {.low = low};
}
Limits one_of(std::vector<std::string> names) {
  return {.names = std::move(names)};
}
const Limits kRequired = {.required = true};
const Limits kRequiredPath = {.required = true, .is_path = true};
const Limits kPath = {.is_path = true};

// The address of a member, as a plain function.
#define AT(member) [](auto& s) -> Ref { return &s.member; }

std::string chat_template_names() {
  std::string list;
  for (const std::string& name : ChatTemplate::names()) list += (list.empty() ? "" : ", ") + name;
  return list;
}

std::vector<Field<Config>> make_config_fields() {
  constexpr Bits no = Bits::kNo, yes = Bits::kYes, content = Bits::kByContent;
  return {
      {"model.path", "Hugging Face folder: config.json, *.safetensors, tokenizer.json.",
       AT(model.path), content, kRequiredPath},
      {"model.dtype", "Type of the weights and activations.", AT(model.dtype), yes,
       one_of({"float32", "bfloat16"})},
      {"model.device",
       "Where it is computed: on the CPU, or on one NVIDIA GPU a rank (a build with "
       "-DSVFLEET_CUDA=ON).",
       AT(model.device), Bits::kUnlessDefault, one_of({"cpu", "cuda"})},
      {"model.chat_template",
       "Chat template by name: " + chat_template_names() +
           "; empty = recognise the one in the folder.",
       AT(model.chat_template), yes},
      {"model.max_length",
       "The longest sequence, prompt and reply, in tokens; 0 = what the model was first trained "
       "on. "
       "Rotary positions that depend on a length (dynamic, longrope) are chosen for it, once.",
       AT(model.max_length), Bits::kUnlessDefault, between(0, 100000000)},
      {"model.chat_format.begin",
       "Written before the first message, such as the token that begins a text.",
       AT(model.chat_format.begin), Bits::kUnlessDefault},
      {"model.chat_format.system",
       "A system message, with {content} where its text stands; empty = such a message is refused.",
       AT(model.chat_format.system), Bits::kUnlessDefault},
      {"model.chat_format.user", "A message of the user, with {content}.",
       AT(model.chat_format.user), Bits::kUnlessDefault},
      {"model.chat_format.assistant",
       "A message of the assistant, with {content}; what follows it is the token that ends a turn.",
       AT(model.chat_format.assistant), Bits::kUnlessDefault},
      {"model.chat_format.answer", "Written last, where the assistant's answer starts.",
       AT(model.chat_format.answer), Bits::kUnlessDefault},
      {"model.chat_format.default_system",
       "Content of a system message where a chat has none; empty = none is added.",
       AT(model.chat_format.default_system), Bits::kUnlessDefault},

      {"run_dir", "Everything a run writes goes into this folder.", AT(run_dir), no, kRequiredPath},

      {"svd.store",
       "Folder of the decomposed matrices; empty = <model.path>.factors beside the model.",
       AT(svd.store), content, kPath},
      {"svd.targets",
       "What is adapted: mlp (gate, up and down), attention (q, k, v and o), all, or single "
       "matrices.",
       AT(svd.targets), yes,
       one_of({"mlp", "attention", "all", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
               "up_proj", "down_proj"})},
      {"svd.layers", "Layers, from 0: \"all\", or ranges such as \"0..11,40..79\".", AT(svd.layers),
       yes},
      {"svd.components",
       "Which components of each matrix are trained, in order of singular values: all, or so many "
       "at an end, such as \"top 64\" or \"bottom 64\". For train.core diagonal, block and tiny.",
       AT(svd.components), Bits::kUnlessDefault},
      {"svd.storage",
       "Storage type of the singular bases Q; bfloat16 halves the disk, float32 is exact.",
       AT(svd.storage), yes, one_of({"float32", "bfloat16"})},
      {"svd.tolerance",
       "Largest predicted relative error of an adapted matrix that a certificate may show.",
       AT(svd.tolerance),
       no,
       {.low = 0, .high = 1, .above_low = true}},

      {"task",
       "What is trained on: the path of a task file, a task written here, or a list of either.",
       AT(tasks), yes, kRequired},

      {"train.steps", "Steps of the optimizer.", AT(train.steps), Bits::kUnlessConstant,
       between(1, 1000000)},
      {"train.seed", "Seed of the order of prompts and of sampling.", AT(train.seed), yes,
       at_least(0)},
      {"train.learning_rate",
       "Step size of AdamW on p = z - 1.",
       AT(train.learning_rate),
       yes,
       {.low = 0, .high = 10, .above_low = true}},
      {"train.schedule", "How the learning rate changes after the warm-up.", AT(train.schedule),
       yes, one_of({"constant", "cosine"})},
      {"train.warmup_steps", "Steps over which the learning rate rises from 0.",
       AT(train.warmup_steps), yes, between(0, 1000000)},
      {"train.beta1",
       "AdamW: decay of the mean of gradients.",
       AT(train.beta1),
       yes,
       {.low = 0, .high = 1, .below_high = true}},
      {"train.beta2",
       "AdamW: decay of the mean of squared gradients.",
       AT(train.beta2),
       yes,
       {.low = 0, .high = 1, .below_high = true}},
      {"train.epsilon",
       "AdamW: added to the root of the mean square.",
       AT(train.epsilon),
       yes,
       {.low = 0, .high = 1, .above_low = true}},
      {"train.weight_decay", "Pulls z to 1, the base model.", AT(train.weight_decay), yes,
       between(0, 100)},
      {"train.clip_norm", "Largest global norm of the gradient; 0 = no clipping.",
       AT(train.clip_norm), yes, at_least(0)},
      {"train.method",
       "policy_gradient: replies are sampled and rewarded. next_token: the likelihood of given "
       "texts is raised, as in supervised fine-tuning; rewards only say what is right. es: "
       "evolution "
       "strategies, a population of perturbed experts and their mean rewards; forward passes only, "
       "for "
       "up to about 1,500 parameters.",
       AT(train.method), Bits::kUnlessDefault, one_of({"policy_gradient", "next_token", "es"})},
      {"train.texts",
       "Texts of next_token. answers: the items' own, one for each prompt. right_replies: those of "
       "samples_per_prompt replies of the base model that get the full score.",
       AT(train.texts), Bits::kUnlessDefault, one_of({"answers", "right_replies"})},
      {"train.population",
       "Members of a step's population (es), an even number: pairs of opposite perturbations. Each "
       "answers all prompts of the step.",
       AT(train.population), Bits::kUnlessDefault, between(2, 100000)},
      {"train.perturbation",
       "How far each parameter is moved in a member (es).",
       AT(train.perturbation),
       Bits::kUnlessDefault,
       {.low = 0, .high = 10, .above_low = true}},
      {"train.members_per_chunk",
       "Members of one chunk (es), which answer in one batch; must divide population.",
       AT(train.members_per_chunk), no, between(1, 100000)},
      {"train.prompts_per_step", "Prompts of one step.", AT(train.prompts_per_step), yes,
       between(1, 1000000)},
      {"train.samples_per_prompt", "Replies sampled for each prompt.", AT(train.samples_per_prompt),
       yes, between(1, 100000)},
      {"train.prompts_per_chunk",
       "Prompts of one chunk, the unit of work and of restart; must divide prompts_per_step.",
       AT(train.prompts_per_chunk), no, between(1, 1000000)},
      {"train.rows_per_worker",
       "A worker takes a further chunk while its replies and those that it is writing are no more "
       "than this, so that its batch stays full; 1: one chunk at a time. 0: 32, or fewer, so that "
       "their keys and values stay within 256 MiB.",
       AT(train.rows_per_worker), no, between(0, 256)},
      {"train.temperature", "Replies are sampled from softmax(logits / temperature), untruncated.",
       AT(train.temperature), yes, between(1e-6, 100)},
      {"train.baseline",
       "What a reward is compared to: the mean of the prompt's other replies, of all of them, that "
       "and their spread, or nothing.",
       AT(train.baseline), yes, one_of({"leave_one_out", "group_mean", "whitened", "none"})},
      {"train.token_reduction",
       "sum: log-probabilities of a reply's tokens are added; mean: and divided by "
       "token_reduction_length.",
       AT(train.token_reduction), yes, one_of({"sum", "mean"})},
      {"train.token_reduction_length",
       "The fixed number of tokens that token_reduction: mean divides by; 0 with sum.",
       AT(train.token_reduction_length), yes, between(0, 10000000)},
      {"train.reward_right", "Reward of a right reply.", AT(train.reward_right), yes,
       between(-1e6, 1e6)},
      {"train.reward_wrong", "Reward of a wrong reply.", AT(train.reward_wrong), yes,
       between(-1e6, 1e6)},
      {"train.kl_beta", "Weight of KL(policy || base); 0 = no penalty.", AT(train.kl_beta), yes,
       at_least(0)},
      {"train.kl_form",
       "Where the penalty enters: the reward, a k2 loss, or a loss over the full vocabulary.",
       AT(train.kl_form), yes, one_of({"reward", "k2", "full"})},
      {"train.form",
       "How z is put in force, in sampling and gradient alike: merged into a copy of the adapted "
       "weights, once a step; or as a change to activations, which needs no copy and costs more "
       "for "
       "each token.",
       AT(train.form), yes, one_of({"merged", "activation"})},
      {"train.sampling_form", "As train.form.", AT(former.sampling_form), Bits::kFormer,
       one_of({"merged", "activation"})},
      {"train.gradient_form", "As train.form.", AT(former.gradient_form), Bits::kFormer,
       one_of({"activation", "merged"})},
      {"train.gradient_tokens",
       "A prompt with its replies of more tokens is differentiated some replies at a time, which "
       "bounds memory; 0 = never.",
       AT(train.gradient_tokens), Bits::kUnlessDefault, between(0, 100000000)},
      {"train.gradient_checkpointing",
       "Whether the gradient computes each layer once more instead of keeping its activations: "
       "less memory, about a quarter more time, the same bits. auto: where a worker would keep "
       "more than 1 GiB.",
       AT(train.gradient_checkpointing), no, one_of({"auto", "on", "off"})},
      {"train.parametrisation",
       "direct: z = 1 + p; sigmoid: the published code's, for reproducing it.",
       AT(train.parametrisation), yes, one_of({"direct", "sigmoid"})},
      {"train.core",
       "What is trained of each matrix W. diagonal: a scale for each singular component (SVF). "
       "block: any k x k change among svd.components (LoRA-XS). tiny: such blocks of "
       "train.core_numbers numbers that many matrices share (TinyLoRA). bias: a vector added to "
       "each layer's output (svd.targets: [down_proj]). lora: W + (alpha / r) B A. ia3: scales of "
       "keys, values and the MLP's inner activations (svd.targets: [k_proj, v_proj, down_proj]).",
       AT(train.core), Bits::kUnlessDefault,
       one_of({"diagonal", "block", "tiny", "bias", "lora", "ia3"})},
      {"train.core_rank", "Rank r of core lora.", AT(train.core_rank), Bits::kUnlessDefault,
       between(1, 100000)},
      {"train.core_alpha",
       "Alpha of core lora: B A is times alpha / r.",
       AT(train.core_alpha),
       Bits::kUnlessDefault,
       {.low = 0, .above_low = true}},
      {"train.core_numbers", "How many numbers core tiny trains, for each group of matrices.",
       AT(train.core_numbers), Bits::kUnlessDefault, between(1, 1000000)},
      {"train.core_tied",
       "So many neighbouring matrices share the numbers of core tiny; 0 = all of them.",
       AT(train.core_tied), Bits::kUnlessDefault, between(0, 1000000)},
      {"train.init_from", "Expert file to start from; empty = the base model.", AT(train.init_from),
       content, kPath},
      {"train.checkpoint_every", "Save a checkpoint every so many steps, and at the end.",
       AT(train.checkpoint_every), no, between(1, 1000000)},
      {"train.keep_checkpoints", "The newest so many checkpoints and the best one are kept.",
       AT(train.keep_checkpoints), no, between(1, 1000000)},
      {"train.validate_every", "Measure the validation split every so many steps; 0 = never.",
       AT(train.validate_every), no, between(0, 1000000)},
      {"train.validation_items",
       "Items of each task's validation split that are used, the first ones; 0 = all. The score "
       "that "
       "chooses the best is the mean over the items of all tasks.",
       AT(train.validation_items), no, at_least(0)},
      {"train.early_stop_after",
       "Stop after so many validations without a better mean score; 0 = never.",
       AT(train.early_stop_after), no, between(0, 1000000)},
      {"train.log_kl_every",
       "Measure KL(policy || base) for the log every N steps where kl_beta is 0 (0 = never); with "
       "kl_beta it is measured in every step.",
       AT(train.log_kl_every), no, between(0, 1000000)},
      {"train.rollout_samples", "Replies written to rollouts.jsonl in each step, to be read.",
       AT(train.rollout_samples), no, between(0, 100000)},
      {"train.max_nonfinite_steps",
       "Consecutive steps with a gradient that is not finite that end the run.",
       AT(train.max_nonfinite_steps), no, between(1, 1000000)},

      {"experts",
       "Several experts that are trained together on one resident model, each to the bits of a run "
       "of "
       "its own: a name, and a task and train settings over those above.",
       AT(experts), yes},

      {"evaluate.split", "The split that is measured.", AT(evaluate.split), no,
       one_of({"test", "validation", "train"})},
      {"evaluate.items", "Number of items of each task, the first ones of the split; 0 = all.",
       AT(evaluate.items), no, at_least(0)},
      {"evaluate.temperature", "0 = greedy; otherwise replies are sampled, with the limits below.",
       AT(evaluate.temperature), no, between(0, 100)},
      {"evaluate.top_k", "Sample among so many likeliest tokens; 0 = all.", AT(evaluate.top_k), no,
       between(0, 10000000)},
      {"evaluate.top_p",
       "Sample among the likeliest tokens that reach this probability together.",
       AT(evaluate.top_p),
       no,
       {.low = 0, .high = 1, .above_low = true}},
      {"evaluate.min_p",
       "Sample among tokens at least this probable, as a share of the likeliest one.",
       AT(evaluate.min_p),
       no,
       {.low = 0, .high = 1, .below_high = true}},
      {"evaluate.seed", "Seed of sampled evaluation.", AT(evaluate.seed), no, at_least(0)},
      {"evaluate.samples",
       "Replies to each item; above 1 they are sampled (temperature), and pass@k and majority@k "
       "are told.",
       AT(evaluate.samples), no, between(1, 1000)},
      {"evaluate.batch", "Items generated together.", AT(evaluate.batch), no, between(1, 100000)},

      {"workers",
       "Chunks computed side by side by a rank; 0 = cores available (as many as a container's "
       "quota allows) / ranks on this host / threads, and 1 on a GPU.",
       AT(workers), no, between(0, 10000)},
      {"threads", "Threads inside one chunk.", AT(threads), yes, between(1, 1024)},
      {"timeout_s",
       "Seconds after which a rank that says nothing, or does not move, is waited for no longer.",
       AT(timeout_s),
       no,
       {.low = 0, .high = 1e6, .above_low = true}},
  };
}

std::vector<Field<TaskSpec>> make_task_fields() {
  constexpr Bits no = Bits::kNo, yes = Bits::kYes, content = Bits::kByContent;
  return {
      {"name", "Name in tables and logs; by default the task file's name.", AT(name), no},
      {"train", "JSONL file of the training split, one item a line.", AT(train), content, kPath},
      {"validation", "JSONL file of the validation split.", AT(validation), content, kPath},
      {"test", "JSONL file of the test split.", AT(test), content, kPath},
      {"prompt",
       "The user's message; {field} is replaced by that field of the item, {{ and }} are braces, "
       "{choices} lists the choices; braces round what is no name are text.",
       AT(prompt), yes},
      {"answer",
       "The field that holds the right answer, or a list of right answers; a.b reaches inside.",
       AT(answer), yes},
      {"choices",
       "The field that holds the choices of a multiple-choice item: [{label, text}], a list of "
       "texts, or {label: [...], text: [...]}.",
       AT(choices), yes},
      {"system", "System message; without it the chat template's default, \"\" = none.",
       [](TaskSpec& s) -> Ref {
         return OptionalText{&s.system, &s.has_system};
       },
       yes},
      {"few_shot.file", "JSONL file of solved examples, put before the question.", AT(few_shot),
       content, kPath},
      {"few_shot.count", "The first so many of the file; 0 = all.", AT(few_shot_count), yes,
       between(0, 10000)},
      {"few_shot.answer", "Template of the solved answers; empty = \"{answer}\".",
       AT(few_shot_answer), yes},
      {"prefill", "The start of the model's answer.", AT(prefill), yes},
      {"chat", "false: the prompt is plain text, without a chat template.", AT(chat), yes},
      {"rewards", "What counts as right; several are averaged by weight.", AT(rewards), yes,
       kRequired},
      {"stop", "Texts that end a reply, besides the model's own stop tokens.", AT(stop), yes},
      {"stop_tokens",
       "More stop tokens, by the token's text or its number; texts in stop that are special tokens "
       "count as such too.",
       AT(stop_tokens), Bits::kUnlessDefault},
      {"max_new_tokens", "Longest reply, in tokens.", AT(max_new_tokens), yes, between(1, 1000000)},
      {"truncated",
       "A reply cut by that limit is wrong, left out of training (mask), or scored as it is.",
       AT(truncated), yes, one_of({"wrong", "mask", "score"})},
      {"weight",
       "Share of the prompts when several tasks are mixed.",
       AT(weight),
       yes,
       {.low = 0, .high = 1e6, .above_low = true}},
  };
}

std::vector<Field<RewardSpec>> make_reward_fields() {
  constexpr Bits yes = Bits::kYes;
  return {
      {"kind",
       "How a reply is compared with the right answer; random is a control.",
       AT(kind),
       yes,
       {.names = {"exact", "last_number", "multiple_choice", "regex", "random", "contains"},
        .required = true}},
      {"weight",
       "Share in the mean of several rewards.",
       AT(weight),
       yes,
       {.low = 0, .high = 1e6, .above_low = true}},
      {"pattern",
       "regex: a PCRE2 pattern; its first group, or the whole match, is compared with the answer. "
       "No {field} is filled in.",
       AT(pattern), yes},
      {"match_only", "regex: the match alone is the reward.", AT(match_only), yes},
      {"ignore_case", "exact, contains, regex: letters match in either case.", AT(ignore_case),
       yes},
      {"tolerance", "last_number: largest difference from the answer.", AT(tolerance), yes,
       at_least(0)},
      {"seed", "random: the seed of the coin.", AT(seed), yes, at_least(0)},
  };
}
#undef AT

}  // namespace

const std::vector<Field<Config>>& config_fields() {
  static const auto fields = make_config_fields();
  return fields;
}

const std::vector<Field<TaskSpec>>& task_fields() {
  static const auto fields = make_task_fields();
  return fields;
}

const std::vector<Field<RewardSpec>>& reward_fields() {
  static const auto fields = make_reward_fields();
  return fields;
}

std::string section_comment(const std::string& section) {
  if (section == "model") return "The language model; it is never changed.";
  if (section == "svd") return "Its decomposition: which matrices are adapted, and how.";
  if (section == "train") return "Training of an expert by reinforcement learning.";
  if (section == "evaluate") return "How accuracy is measured.";
  if (section == "chat_format")
    return "A chat format of your own, in place of a known template: each message is its role's "
           "piece, in the order of the messages.";
  if (section == "few_shot") return "Solved examples before the question.";
  return "";
}

std::string type_text(const Ref& ref) {
  struct Namer {
    std::string operator()(std::string*) { return "a text"; }
    std::string operator()(int64_t*) { return "a whole number"; }
    std::string operator()(int*) { return "a whole number"; }
    std::string operator()(double*) { return "a number"; }
    std::string operator()(bool*) { return "true or false"; }
    std::string operator()(std::vector<std::string>*) { return "a list of texts"; }
    std::string operator()(TruncatedRule*) { return "a text"; }
    std::string operator()(RewardKind*) { return "a text"; }
    std::string operator()(OptionalText) { return "a text"; }
    std::string operator()(std::vector<RewardSpec>*) { return "a list of rewards"; }
    std::string operator()(std::vector<TaskSpec>*) { return "a path, a task or a list of them"; }
    std::string operator()(std::vector<ExpertConfig>*) { return "a list of {name, task, train}"; }
  };
  return std::visit(Namer{}, ref);
}

std::string number_text(double value) {
  char buffer[40];
  // Plain digits for whole numbers of a readable size (1000000, not 1e+06), the shortest else.
  const bool whole = value > -1e15 && value < 1e15 && value == std::trunc(value);
  const auto end = whole
                       ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<int64_t>(value))
                       : std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end.ptr);
}

std::string limits_text(const Limits& limits) {
  if (!limits.names.empty()) {
    std::string text = "one of ";
    for (size_t i = 0; i < limits.names.size(); ++i) text += (i ? ", " : "") + limits.names[i];
    return text;
  }
  const bool has_low = limits.low > -std::numeric_limits<double>::infinity();
  const bool has_high = limits.high < std::numeric_limits<double>::infinity();
  if (has_low && has_high && !limits.above_low && !limits.below_high)
    return "between " + number_text(limits.low) + " and " + number_text(limits.high);
  std::string text;
  if (has_low) text = (limits.above_low ? "above " : "at least ") + number_text(limits.low);
  if (has_high) {
    if (!text.empty()) text += " and ";
    text += (limits.below_high ? "below " : "at most ") + number_text(limits.high);
  }
  return text;
}

}  // namespace svfleet
