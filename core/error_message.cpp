#include "core/error_message.h"

#include <filesystem>
#include <stdexcept>
#include <system_error>

#include <c10/util/Exception.h>

#include "core/error.h"

namespace braid {

namespace {

std::string first_line(const std::string& said) {
  return said.substr(0, said.find('\n'));
}

// Nothing that a user does should lead here, so the text is of use to whoever mends it.
std::string unexpected(const std::string& said) {
  return "this should not happen: " + first_line(said) +
         "; please report it with the command and its configuration";
}

}  // namespace

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const Error*>(&error) != nullptr) {
    return error.what();
  }
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error)) {
    return unexpected(torch_error->what_without_backtrace());
  }
  if (const auto* of_file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return text("cannot use ",
                of_file->path1().empty() ? "a file or folder" : of_file->path1().string(),
                of_file->path2().empty() ? "" : " and " + of_file->path2().string(),
                ": ",
                of_file->code().message());
  }
  if (dynamic_cast<const std::length_error*>(&error) != nullptr) {
    return "a size is too large for any memory; look for a number that is far too large in the "
           "configuration or the options";
  }
  if (const auto* of_system = dynamic_cast<const std::system_error*>(&error)) {
    return text("the system refuses: ", of_system->code().message());
  }
  return unexpected(error.what());
}

}  // namespace braid
