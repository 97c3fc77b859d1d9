#include "core/work.h"

#include <string>

#include <gtest/gtest.h>

namespace braid {
namespace {

TEST(Work, IsToldFromTheOutermostPart) {
  std::string told;
  listen_to_work({.begin = [&](const std::string& what, WorkUnit) { told += what + " "; },
                  .update =
                      [&](int64_t done, int64_t total) {
                        told += std::to_string(done) + "/" + std::to_string(total) + " ";
                      },
                  .end = [&] { told += "end"; }});
  Work::did(5);  // of nothing
  {
    const Work outer("outer", 10);
    Work::did(2);
    {
      const Work inner("inner", 3);
      Work::did(1);
    }
    Work::did(7);
  }
  listen_to_work({});
  EXPECT_EQ(told, "outer 2/10 3/10 10/10 end");
}

}  // namespace
}  // namespace braid
