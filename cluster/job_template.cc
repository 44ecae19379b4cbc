#include "cluster/job_template.h"

#include <functional>
#include <regex>
#include <set>
#include <sstream>

#include "cluster/job_sh.h"  // made from cluster/job.sh
#include "cluster/sbatch_option.h"
#include "comm/error.h"

namespace svfleet {
namespace {

// sbatch reads those of other schedulers as well.
bool asks_scheduler(const std::string& line) {
  for (const char* word : {"#SBATCH", "#PBS", "#BSUB"})
    if (line.rfind(word, 0) == 0) return true;
  return false;
}

void each_line(const std::string& text,
               const std::function<void(const std::string& line, int number)>& work) {
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) work(line, ++number);
}

// The name of a line that is nothing but `# @NAME@`, or "".
std::string lines_place(const std::string& line) {
  static const std::regex whole("# @([A-Z_]+)@");
  std::smatch found;
  return std::regex_match(line, found, whole) ? found.str(1) : "";
}

std::string fill_line(const std::string& line, const std::string& where,
                      const std::function<const Place&(const std::string&)>& place) {
  static const std::regex word("@([A-Z_]+)@");
  std::string out;
  auto rest = line.cbegin();
  for (std::sregex_iterator found(line.begin(), line.end(), word), end; found != end; ++found) {
    const Place& wanted = place(found->str(1));
    const std::string shown = found->str(0);
    const auto [begin, after] = std::pair((*found)[0].first, (*found)[0].second);
    if (wanted.lines)
      throw user_error(where, shown, " stands for lines: write '# ", shown,
                       "' on a line of its own");
    if (line[line.find_first_not_of(" \t")] == '#')
      throw user_error(where, shown, " stands in a comment, where it does nothing");
    for (const char quote : {'"', '\''})
      if ((begin != line.cbegin() && *(begin - 1) == quote) ||
          (after != line.cend() && *after == quote))
        throw user_error(where, shown, " is filled in with its quotes: take those around it away");
    out.append(rest, begin);
    out += wanted.value;
    rest = after;
  }
  return out.append(rest, line.cend());
}

}  // namespace

const std::string& default_template() {
  static const std::string text = kJobSh;
  return text;
}

std::string fill_template(const std::string& text, const std::string& name,
                          const std::map<std::string, Place>& places) {
  std::string out;
  std::set<std::string> seen;
  bool commands = false;  // sbatch reads no options from the first command on
  each_line(text, [&](const std::string& line, int number) {
    const std::string where = name + ":" + std::to_string(number) + ": ";
    const auto place = [&](const std::string& wanted) -> const Place& {
      const auto found = places.find(wanted);
      if (found == places.end()) {
        std::string known;
        for (const auto& [one, its] : places) known += (known.empty() ? "" : ", ") + one;
        throw user_error(where, "@", wanted, "@ is no place of a job template; there are: ", known);
      }
      seen.insert(wanted);
      return found->second;
    };
    if (number == 1 && line.rfind("#!", 0) != 0)
      throw user_error(where, "a batch script begins with #! and its shell, such as #!/bin/bash");
    if (asks_scheduler(line) && commands)
      throw user_error(where, "'", line, "' stands below a command, where sbatch passes it over");
    const std::string whole = lines_place(line);
    if (!whole.empty() && place(whole).lines) {
      if (whole == "SBATCH" && commands)
        throw user_error(where, "'# @SBATCH@' stands below a command, where sbatch passes it over");
      const std::string& value = place(whole).value;
      if (!value.empty()) out += value + (value.back() == '\n' ? "" : "\n");
      return;
    }
    const size_t first = line.find_first_not_of(" \t");
    if (first == std::string::npos) {
      out += line + "\n";
      return;
    }
    commands = commands || line[first] != '#';
    out += fill_line(line, where, place) + "\n";
  });
  for (const auto& [wanted, its] : places)
    if (its.needed && !seen.count(wanted))
      throw user_error(name, ": ", its.lines ? "the line '# @" : "@", wanted, "@",
                       its.lines ? "'" : "", " is missing; 'svfleet submit --print-template' shows",
                       " where it belongs");
  return out;
}

void adopt_template_options(const std::string& text, const std::string& name, JobRequest& ask) {
  bool below = false;
  each_line(text, [&](const std::string& line, int number) {
    below = below || lines_place(line) == "SBATCH";
    if (!asks_scheduler(line)) return;
    const std::string where = name + ":" + std::to_string(number) + ":";
    if (below)
      throw user_error(where, " '", line, "' would override what was asked for; move it above ",
                       "'# @SBATCH@'");
    static const std::regex form("#SBATCH +(--[a-z-]+(=([^ \"'#]+|\"[^\"]*\"))?) *(#.*)?");
    std::smatch found;
    if (!std::regex_match(line, found, form))
      throw user_error(where, " '", line, "': write one option a line, as #SBATCH --name=value");
    std::string option = found.str(1);
    std::erase(option, '"');
    bool contradicts = false;  // the words of who submits come later in the script, and win
    adopt(sbatch_option(option, where), ask, &contradicts);
  });
}

void check_prelude(const std::string& text, const std::string& name) {
  each_line(text, [&](const std::string& line, int number) {
    if (line.ends_with('\r'))
      throw user_error(name, ":", number,
                       ": the line ends as on Windows (CR LF), which bash takes ",
                       "for a part of it; write the file with LF alone");
    if (asks_scheduler(line))
      throw user_error(name, ":", number, ": '", line,
                       "' would be passed over: a prelude stands below commands; give it by ",
                       "--sbatch");
  });
}

}  // namespace svfleet
