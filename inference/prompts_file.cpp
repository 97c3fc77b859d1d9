#include "inference/prompts_file.h"

#include <sstream>

#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"

namespace braid {

std::vector<std::string> read_prompts(const std::filesystem::path& path) {
  std::vector<std::string> prompts;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    const std::string where = text(path.string(), ":", prompts.size() + 1);
    if (line.ends_with('\r')) {
      line.pop_back();
    }
    require(!line.empty(), where, ": the line is empty; expected one prompt a line");
    if (path.extension() == ".jsonl") {
      const auto object = parse_strict_json(line, where);
      const auto& prompt = json_field(object, "prompt", where);
      require(prompt.is_string(), where, ": \"prompt\" is ", prompt.dump(), ", expected a text");
      line = prompt.get<std::string>();
    }
    prompts.push_back(line);
  }
  require(!prompts.empty(), path.string(), ": is empty; expected one prompt a line");
  return prompts;
}

}  // namespace braid
