#include "core/error_message.h"

#include <new>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace braid {
namespace {

template <class Action>
std::string message_when(const Action& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return message_of(error);
  }
  return "";
}

TEST(ErrorMessage, OfMemoryThatRanOutSaysWhatNeedsLessOfIt) {
  const auto of_library = message_when([] {
    TORCH_CHECK(false,
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1234 bytes. "
                "Error code 12 (Cannot allocate memory)");
  });
  EXPECT_NE(of_library.find("1234 bytes"), std::string::npos) << of_library;
  EXPECT_EQ(of_library.find("DefaultCPUAllocator"), std::string::npos) << of_library;
  for (const auto& message : {of_library, message_when([] { throw std::bad_alloc(); })}) {
    for (const auto* part :
         {"out of memory", "train.micro_batch_size", "train.recompute_sublayers", "ranks"}) {
      EXPECT_NE(message.find(part), std::string::npos) << message;
    }
  }
}

}  // namespace
}  // namespace braid
