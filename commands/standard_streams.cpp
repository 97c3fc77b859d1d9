#include "commands/standard_streams.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {
namespace {

// Buffered until a flush.
class DescriptorBuffer : public std::streambuf {
 public:
  DescriptorBuffer() { setp(bytes_.data(), bytes_.data() + bytes_.size()); }

 protected:
  int_type overflow(int_type byte) override {
    sync();
    if (!traits_type::eq_int_type(byte, traits_type::eof())) {
      *pptr() = traits_type::to_char_type(byte);
      pbump(1);
    }
    return traits_type::not_eof(byte);
  }

  int sync() override {
    const char* next = pbase();
    const char* const end = pptr();
    setp(bytes_.data(), bytes_.data() + bytes_.size());  // what cannot be written is dropped
    while (next < end) {
      const ssize_t count = ::write(STDOUT_FILENO, next, static_cast<std::size_t>(end - next));
      if (count >= 0) {
        next += count;
      } else if (errno == EAGAIN) {
        pollfd ready{STDOUT_FILENO, POLLOUT, 0};
        ::poll(&ready, 1, -1);
      } else if (errno != EINTR) {
        fail("cannot write to standard output: ", std::strerror(errno));
      }
    }
    return 0;
  }

 private:
  std::array<char, 1 << 14> bytes_;
};

}  // namespace

void occupy_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) {
      // The lowest free number is this one. Opened the wrong way round, so that its use fails.
      ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
  }
}

StandardOutput::StandardOutput()
    : buffer_(std::make_unique<DescriptorBuffer>()), before_(std::cout.rdbuf(buffer_.get())) {
  std::cout.exceptions(std::ios::badbit);
  std::cerr.tie(nullptr);  // else writing there throws too, in destructors as well
}

StandardOutput::~StandardOutput() {
  let_output_fail();
  std::cout.flush();
  std::cerr.tie(&std::cout);
  std::cout.rdbuf(before_);
}

void let_output_fail() {
  std::cout.exceptions(std::ios::goodbit);
}

}  // namespace braid
