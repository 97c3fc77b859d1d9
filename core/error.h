#pragma once
// What Braid throws. Every message says what was wrong, where, what was expected and what to do.

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace braid {

/// Concatenates anything printable: `text("rank ", 3)`.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

/// A problem the user can fix: a file, a key, a shape, a full disk. `main` prints what() and
/// exits 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A configuration value that cannot work. `key` is the full path ("model.o_groups"); whoever read
/// the file adds the place (file:line) with located().
class ConfigError : public Error {
 public:
  ConfigError(std::string key, const std::string& message)
      : Error(key.empty() ? message : key + ": " + message),
        key_(std::move(key)),
        message_(message) {}
  const std::string& key() const { return key_; }
  const std::string& message() const { return message_; }

 private:
  std::string key_;
  std::string message_;
};

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(text(parts...));
}

/// Throws Error with the message unless the condition holds.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    fail(parts...);
  }
}

}  // namespace braid
