#include "inference/prompts_file.h"

#include <sstream>

#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"
#include "data/file_format.h"
#include "data/text_source.h"

namespace braid {

std::vector<std::string> read_prompts(const std::filesystem::path& path) {
  std::vector<std::string> prompts;
  const std::string contents = read_file(path);
  const auto text_of_file = without_byte_order_mark(contents);
  require_text(std::string_view(contents).substr(0, kHeadBytes), path.string());
  // Empty lines at the end are no prompts; one between prompts may be a mistake.
  const auto end = text_of_file.find_last_not_of("\r\n");
  std::istringstream lines{std::string(text_of_file.substr(0, end + 1))};
  for (std::string line; std::getline(lines, line);) {
    const std::string where = text(path.string(), ":", prompts.size() + 1);
    if (line.ends_with('\r')) {
      line.pop_back();
    }
    require(!line.empty(), where, ": the line is empty; expected one prompt a line");
    if (is_jsonl(path)) {
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
