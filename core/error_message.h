#pragma once
#include <exception>
#include <string>

namespace braid {

/// What an exception says, for people. Other libraries' and the system's become a sentence: no
/// backtrace, nothing of their own form; where memory ran out, what needs less of it.
std::string message_of(const std::exception& error);

}  // namespace braid
