#pragma once
#include <exception>
#include <string>

namespace braid {

/// What an exception says, for people. Other libraries' and the system's become a sentence: no
/// backtrace, nothing of their own form.
std::string message_of(const std::exception& error);

}  // namespace braid
