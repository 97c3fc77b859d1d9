// Messages are sentences of ours, with the file or key and what to do; no library's own text.
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using testing::expect_error;

class Messages : public testing::CliTest {};

TEST_F(Messages, AbsentPathsAreNamed) {
  for (const std::string command : {"inspect", "generate", "probe"}) {
    std::vector<std::string> arguments = {command, "nowhere"};
    if (command == "generate") {
      arguments.insert(arguments.end(), {"--prompt", "a"});
    } else if (command == "probe") {
      arguments.insert(arguments.end(),
                       {"--inputs", "x.safetensors", "--outputs", "y.safetensors"});
    }
    expect_error(braid(arguments), {"nowhere"});
  }
}

}  // namespace
}  // namespace braid
