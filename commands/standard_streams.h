#pragma once
#include <ios>
#include <memory>
#include <streambuf>

namespace braid {

/// Gives descriptors 0 to 2 that are closed to /dev/null, so that no file of ours gets their number
/// and what is printed into it. Using them still fails, as it does with closed ones.
void occupy_standard_descriptors();

/// Makes what std::cout writes an error where it cannot be written: the stream then throws Error
/// with the reason, while it lives and unless let_output_fail() was called.
class StandardOutput {
 public:
  StandardOutput();
  ~StandardOutput();
  StandardOutput(const StandardOutput&) = delete;
  StandardOutput& operator=(const StandardOutput&) = delete;

 private:
  std::unique_ptr<std::streambuf> buffer_;
  std::streambuf* before_;
};

/// From here on std::cout may be unwritable: what it shows is written elsewhere too.
void let_output_fail();

}  // namespace braid
