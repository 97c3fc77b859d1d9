#pragma once
#include <exception>
#include <string>

namespace braid {

/// What an exception says, for people: an error of LibTorch without its backtrace; where memory ran
/// out, what needs less of it.
std::string message_of(const std::exception& error);

}  // namespace braid
