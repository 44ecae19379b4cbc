// An expert set: the experts that one base may answer with, what each is for, and how the model is
// asked which of them a prompt is for. A YAML file; docs/adaptation.md.
#pragma once

#include <string>
#include <vector>

namespace svfleet {

struct SetMember {
  // Expert file, relative to the file of the set.
  std::string file;
  // How it is named in results; the file's own name otherwise.
  std::string label;
  // What it is for, in words for the model; the label otherwise.
  std::string about;
  // Tasks whose prompts are its own, to say how often the choice is right; the task named as its
  // label otherwise.
  std::vector<std::string> tasks;
};

// How the choice is read from the model.
enum class AskBy {
  kLikelihood,  // the letter with the largest log-probability
  kCalibrated,  // the same, less what a prompt without content gives it (Zhao et al. 2021)
  kAnswer       // the letter that a free answer settles on; none is none of them
};

struct DomainQuestion {
  std::string text =
      "{prompt}\n\nDo not answer this question. What is it about?\n{choices}\n"
      "Answer with only {letters}.";
  std::string prefill = "Answer:";  // the start of the model's answer
  AskBy by = AskBy::kLikelihood;
  std::string other = "something else";  // the last choice, which means the base; empty: none
  int max_new_tokens = 8;                // of a free answer
};

struct ExpertSet {
  std::string path;
  std::vector<SetMember> members;
  std::string classifier;  // an expert that answers the question; empty: none
  DomainQuestion question;

  // Files of the members, then of the classifier.
  std::vector<std::string> files() const;
  // Of the members, then "other".
  std::vector<std::string> labels() const;
  // Whose a task's prompts are: a member, or members.size().
  size_t owner_of(const std::string& task) const;
};

inline constexpr char kOther[] = "other";

// Error(kExitUser) with file and line, like load_config. Whether the experts' files are there is
// not looked at.
ExpertSet load_expert_set(const std::string& path);

// The question about a prompt, as a message to the model; and its choices: what they are about.
std::string question_about(const ExpertSet& set, const std::string& prompt);
std::vector<std::string> letters_of(const ExpertSet& set);  // A, B, ...; "other" the last
std::vector<std::string> choices_of(const ExpertSet& set);

}  // namespace svfleet
