#include "checkpoint/safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "tests/checkpoint/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using namespace testing;

void write_raw(const std::filesystem::path& path,
               const std::string& header,
               std::size_t data_bytes) {
  const uint64_t length = header.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), 8);
  file << header << std::string(data_bytes, '\1');
}

std::vector<NamedTensor> copies(const SafetensorsFile& file) {
  std::vector<NamedTensor> tensors;
  for (const auto& name : file.names()) {
    tensors.push_back({name, file.tensor(name)});
  }
  return tensors;
}

TEST(Safetensors, KeepsEveryBitOfEveryDtype) {
  const TemporaryFolder folder;
  const auto tensors = tensors_of_every_kind("layers.0.");
  write_safetensors(folder / "a.safetensors", tensors, {{"format", "pt"}, {"note", "\"x\""}});
  const SafetensorsFile file(folder / "a.safetensors");
  expect_same_tensors(copies(file), tensors);
  expect_same_tensors(file.views(), tensors);
  EXPECT_EQ(file.metadata().at("note"), "\"x\"");
  EXPECT_EQ(file.dtype("layers.0.BFloat16.weight"), at::kBFloat16);
  EXPECT_EQ(file.shape("layers.0.strided"), (std::vector<int64_t>{6, 4}));
  EXPECT_FALSE(file.contains("layers.0"));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.safetensors.braid.tmp"));
}

TEST(Safetensors, WritesTheBytesOfTheFormat) {
  const TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors",
                    {{"b", at::tensor({7}, at::kByte)}, {"w", at::ones({1}, at::kFloat)}});
  const std::string bytes = read_file(folder / "a.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(nlohmann::json::parse(bytes.substr(8, length)),
            nlohmann::json::parse(R"({"__metadata__": {"format": "pt"},
                                      "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                                      "b": {"dtype": "U8", "shape": [1], "data_offsets": [4, 5]}})"));
  EXPECT_EQ(bytes.substr(8 + length), std::string("\0\0\x80\x3f\7", 5));
}

TEST(Safetensors, ViewsOutliveTheFileObjectAndItsName) {
  const TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors", {{"w", at::arange(1000)}});
  auto file = std::make_unique<SafetensorsFile>(folder / "a.safetensors");
  const auto view = file->view("w");
  file.reset();
  std::filesystem::remove(folder / "a.safetensors");
  expect_bitwise_equal("w", view, at::arange(1000));
}

TEST(Safetensors, ReadsMisalignedTensors) {
  const TemporaryFolder folder;
  write_raw(
      folder / "a.safetensors",
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"I16","shape":[2],"data_offsets":[1,5]}})",
      5);
  expect_bitwise_equal(
      "b", SafetensorsFile(folder / "a.safetensors").view("b"), at::full({2}, 0x0101, at::kShort));
}

TEST(Safetensors, OpensShardsThroughTheIndex) {
  const TemporaryFolder folder;
  write_safetensors(folder / "model-1.safetensors", {{"a", at::ones({2})}});
  write_safetensors(folder / "model-2.safetensors", {{"b", at::zeros({3})}});
  const auto write_index = [&](const std::string& weight_map) {
    write_file_atomically(folder / "model.safetensors.index.json",
                          R"({"metadata": {}, "weight_map": )" + weight_map + "}");
  };
  write_index(R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})");
  expect_same_tensors(copies(SafetensorsFile(folder.path())),
                      {{"a", at::ones({2})}, {"b", at::zeros({3})}});
  expect_same_tensors(copies(SafetensorsFile(folder / "model.safetensors.index.json")),
                      {{"a", at::ones({2})}, {"b", at::zeros({3})}});

  const auto refuses = [&](const std::string& weight_map, const std::string& part) {
    write_index(weight_map);
    const std::string message = error_of([&] { SafetensorsFile file(folder.path()); });
    EXPECT_TRUE(contains(message, part)) << message;
  };
  refuses(R"({"a": "model-1.safetensors", "c": "model-2.safetensors"})",
          "tensor 'c' is not in model-2.safetensors");
  refuses(R"({"b": "model-2.safetensors", "a": "model-2.safetensors"})",
          "tensor 'a' is not in model-2.safetensors");
  refuses(R"({"a": "model-1.safetensors", "b": "model-3.safetensors"})",
          "1 of the 2 shards that it names is missing: model-3.safetensors");
  refuses(R"({"a": "../model-1.safetensors"})", "expected the name of a file beside it");
  refuses(R"({"a": "model-1.safetensors", "a": "model-2.safetensors"})", "'a' appears twice");
  refuses("7", "weight_map is not an object");
  write_safetensors(folder / "model-2.safetensors", {{"b", at::zeros({3})}, {"d", at::zeros({1})}});
  refuses(R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})",
          "tensor 'd' is not listed");
  write_safetensors(folder / "model-2.safetensors", {{"b", at::zeros({3})}, {"a", at::zeros({1})}});
  refuses(R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})",
          "'a' is also in another shard");
}

TEST(Safetensors, NeverGuessesWhichFileOfAFolderIsMeant) {
  const TemporaryFolder folder;
  write_safetensors(folder / "other.safetensors", {{"a", at::ones({2})}});
  const std::string message = error_of([&] { SafetensorsFile file(folder.path()); });
  EXPECT_TRUE(contains(message, "neither model.safetensors nor")) << message;
}

TEST(Safetensors, NamesTheTensorAndOffsetOfATruncatedFile) {
  const TemporaryFolder folder;
  const auto path = folder / "a.safetensors";
  write_safetensors(path, {{"first", at::ones({4})}, {"last.weight", at::ones({8})}});
  const auto size = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, size - 1);
  const std::string message = error_of([&] { SafetensorsFile file(path); });
  EXPECT_TRUE(contains(message, "a.safetensors is truncated")) << message;
  EXPECT_TRUE(contains(message, "'last.weight' ends at byte 48 of the data, the file holds 47"))
      << message;
  for (const std::size_t kept : {20, 8, 7, 0}) {
    std::filesystem::resize_file(path, kept);
    EXPECT_TRUE(
        contains(error_of([&] { SafetensorsFile file(path); }), "a.safetensors is truncated"))
        << kept;
  }
}

TEST(Safetensors, RefusesHostileHeaders) {
  const TemporaryFolder folder;
  struct Case {
    std::string header;
    std::size_t data_bytes;
    std::string expected;
  };
  const std::string deep(100'000, '[');
  const auto one =
      [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
        return R"({"x": {"dtype": )" + dtype + R"(, "shape": )" + shape + R"(, "data_offsets": )" +
               offsets + "}}";
      };
  const std::vector<Case> cases = {
      {"", 0, "does not begin with '{'"},
      {"[]", 0, "does not begin with '{'"},
      {"{", 0, "not valid JSON"},
      {R"({"x": 1})", 0, "has no 'dtype'"},
      {R"({"x": {"dtype": "F32", "shape": [0]}})", 0, "has no 'data_offsets'"},
      {R"({"x": )" + deep, 0, "nested too deeply"},
      {R"({"x": {}, "x": {}})", 0, "'x' appears twice"},
      {R"({"__metadata__": {"a": 1}})", 0, "is not a string"},
      {one("\"F31\"", "[1]", "[0, 4]"), 4, "dtype \"F31\" is not one of"},
      {one("7", "[1]", "[0, 4]"), 4, "dtype 7 is not one of"},
      {one("\"F32\"", "[2]", "[0, 4]"), 4, "span 4 bytes, shape [2] of F32 needs 8"},
      {one("\"F32\"", "[-1]", "[0, 4]"), 4, "expected a non-negative integer"},
      {one("\"F32\"", "[1.0]", "[0, 4]"), 4, "expected a non-negative integer"},
      {one("\"F32\"", "1", "[0, 4]"), 4, "shape is not a list"},
      {one("\"F32\"", "[4611686018427387904, 4]", "[0, 4]"), 4, "too large"},
      {one("\"F32\"", "[18446744073709551615, 0]", "[0, 0]"), 0, "too large"},
      {one("\"F32\"", "[1]", "[4, 0]"), 4, "end before they begin"},
      {one("\"F32\"", "[1]", "[-4, 0]"), 4, "expected a non-negative integer"},
      {one("\"F32\"", "[1]", "[0]"), 4, "not a list of two"},
      {one("\"F32\"", "[1]", "[18446744073709551612, 18446744073709551615]"), 4, "is truncated"},
      {one("\"F32\"", "[1]", "[4, 8]"), 8, "without gap or overlap"},
      {one("\"F32\"", "[1]", "[0, 4]"), 5, "1 bytes at the end belong to no tensor"},
      {R"({"x": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
           "y": {"dtype": "U8", "shape": [3], "data_offsets": [2, 5]}})",
       5,
       "'y': begins at byte 2"},
  };
  for (const auto& [header, data_bytes, expected] : cases) {
    write_raw(folder / "a.safetensors", header, data_bytes);
    const std::string message = error_of([&] { SafetensorsFile file(folder / "a.safetensors"); });
    EXPECT_TRUE(contains(message, "a.safetensors") && contains(message, expected))
        << header.substr(0, 200) << "\n"
        << message;
  }
  for (const uint64_t length :
       {uint64_t{100'000'001}, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    std::ofstream(folder / "a.safetensors", std::ios::binary)
            .write(reinterpret_cast<const char*>(&length), 8)
        << "{}";
    const std::string message = error_of([&] { SafetensorsFile file(folder / "a.safetensors"); });
    EXPECT_TRUE(contains(message, "above the limit")) << message;
  }
}

TEST(Safetensors, RefusesToWriteANameTwice) {
  const TemporaryFolder folder;
  EXPECT_TRUE(
      contains(error_of([&] {
                 write_safetensors(folder / "a", {{"w", at::ones({1})}, {"w", at::ones({1})}});
               }),
               "'w'"));
  EXPECT_TRUE(contains(error_of([&] {
                         write_safetensors(folder / "a", {{"__metadata__", at::ones({1})}});
                       }),
                       "__metadata__"));
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
}

TEST(Safetensors, AFullDiskLeavesTheEarlierFile) {
  const TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors", {{"w", at::ones({3})}});
  const std::string message = error_of([&] {
    const FileSizeLimit no_space(5000);
    write_safetensors(folder / "a.safetensors", {{"w", at::zeros({10'000})}});
  });
  EXPECT_TRUE(contains(message, "a.safetensors: File too large")) << message;
  expect_same_tensors(copies(SafetensorsFile(folder / "a.safetensors")), {{"w", at::ones({3})}});
  EXPECT_FALSE(std::filesystem::exists(folder / "a.safetensors.braid.tmp"));
}

}  // namespace
}  // namespace braid
