// What libFuzzer calls; BRAID_FUZZ_TARGET is one of targets.h.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  braid::testing::BRAID_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
