#include "run/table.h"

#include <gtest/gtest.h>

#include "run/memory.h"

namespace braid {
namespace {

TEST(Report, PutsOneValueOnALineAndListsOfObjectsIntoTables) {
  EXPECT_EQ(readable({{"name", "run"},
                      {"num_tokens", 1234567},
                      {"loss", 2.25},
                      {"complete", true},
                      {"nothing", nullptr},
                      {"inner", {{"a", 1}, {"longer", -1000}}},
                      {"rows",
                       {{{"file", "a"}, {"shape", {2, 3}}, {"count", 10}},
                        {{"file", "longer"}, {"count", 2000}}}}}),
            "name        run\n"
            "num tokens  1,234,567\n"
            "loss        2.25\n"
            "complete    yes\n"
            "nothing     -\n"
            "inner\n"
            "  a       1\n"
            "  longer  -1,000\n"
            "rows\n"
            "  file    shape  count\n"
            "  a       [2,3]     10\n"
            "  longer         2,000\n");
}

TEST(Report, ScalesBytesAndOperations) {
  EXPECT_EQ(readable({{"bytes", 1023}}), "bytes  1023 B\n");
  EXPECT_EQ(readable({{"text_bytes", 1536}}), "text bytes  1.50 KiB\n");
  EXPECT_EQ(readable({{"bytes", 40.5 * (1 << 20)}}), "bytes  40.5 MiB\n");
  EXPECT_EQ(readable({{"flops", 123.4e12}}), "flops  123 T\n");
  EXPECT_EQ(readable({{"flops", 0}}), "flops  0\n");
}

TEST(Table, JsonKeysHaveNoSpacesOrSigns) {
  const nlohmann::ordered_json object = {{"memory, estimated", {{"total_bytes", 1}}},
                                         {"parts", {{{"a part", 2}}}},
                                         {"gradient_norm.head", "\xff"}};
  EXPECT_EQ(json_text(object),
            "{\"memory_estimated\":{\"total_bytes\":1},\"parts\":[{\"a_part\":2}],"
            "\"gradient_norm.head\":\"\xEF\xBF\xBD\"}");
}

TEST(Table, SizesAreInPowersOf1024Everywhere) {
  EXPECT_EQ(bytes_text(int64_t{0}), "0 B");
  EXPECT_EQ(bytes_text(int64_t{1023}), "1023 B");
  EXPECT_EQ(bytes_text(int64_t{1536}), "1.50 KiB");
  EXPECT_EQ(bytes_text(int64_t{310} << 20), "310 MiB");
  EXPECT_EQ(bytes_text(int64_t{12} << 30), "12.0 GiB");
  EXPECT_EQ(readable({{"size_bytes", 1536}}), "size bytes  1.50 KiB\n");
}

}  // namespace
}  // namespace braid
