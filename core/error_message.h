#pragma once
#include <exception>
#include <string>

namespace braid {

/// What an exception says, for people: an error of LibTorch without its backtrace.
std::string message_of(const std::exception& error);

}  // namespace braid
