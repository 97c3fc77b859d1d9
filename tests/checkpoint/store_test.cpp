#include "checkpoint/store.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include <ATen/ATen.h>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/file.h"
#include "tests/checkpoint/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using namespace testing;
namespace fs = std::filesystem;

Checkpoint example(int64_t step) {
  Checkpoint checkpoint;
  checkpoint.tensors = tensors_of_every_kind("model/layers.0.");
  for (const auto& [name, value] : tensors_of_every_kind("optimizer/layers.0.")) {
    checkpoint.tensors.push_back({name + "/momentum", value});
  }
  checkpoint.state = {
      {"step", step}, {"loss", 1.0 / 3.0}, {"data.position", std::string("{\"epoch\": 2}")}};
  return checkpoint;
}

void expect_good(const fs::path& path, int64_t step) {
  const auto got = load_checkpoint(path), want = example(step);
  expect_same_tensors(got.tensors, want.tensors);
  EXPECT_EQ(got.state, want.state);
}

class Store : public ::testing::Test {
 protected:
  fs::path step(int64_t number) const { return folder_ / checkpoint_folder_name(number); }
  std::string load_error(int64_t number) const {
    return error_of([&] { load_checkpoint(step(number)); });
  }
  TemporaryFolder folder_;
};

TEST_F(Store, GivesBackEveryBitAndTheState) {
  save_checkpoint(step(7), example(7), {{"config.yaml", "model: {}\n"}});
  expect_good(step(7), 7);
  EXPECT_EQ(read_file(step(7) / "config.yaml"), "model: {}\n");
  EXPECT_EQ(read_file(folder_ / "latest"), "step-00000007\n");
}

TEST_F(Store, EqualContentsAreEqualBytesWheneverTheyAreSaved) {
  save_checkpoint(step(1), example(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's times are whole seconds
  save_checkpoint(step(2), example(1));
  for (const auto* file : {"shard-00000-of-00001.h5", "index.h5"}) {
    EXPECT_EQ(read_file(step(1) / file), read_file(step(2) / file)) << file;
  }
}

TEST_F(Store, TheIndexIsReadableWithoutBraidAndEqualsTheShard) {
  save_checkpoint(step(1), example(1));
  const hid_t file = H5Fopen((step(1) / "index.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "/model/layers.0.Float.weight", H5P_DEFAULT);
  ASSERT_GE(dataset, 0);
  const hid_t properties = H5Dget_create_plist(dataset);
  EXPECT_EQ(H5Pget_layout(properties), H5D_VIRTUAL);
  char source[100] = {};
  H5Pget_virtual_filename(properties, 0, source, sizeof(source));
  EXPECT_STREQ(source, "shard-00000-of-00001.h5");
  float fill = 0;
  H5Pget_fill_value(properties, H5T_NATIVE_FLOAT, &fill);
  EXPECT_TRUE(std::isnan(fill));
  auto values = at::empty({5, 131}, at::kFloat);
  EXPECT_GE(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data_ptr()),
            0);
  for (const char* name : {"dtype", "global_shape", "offset"}) {
    EXPECT_GT(H5Aexists(dataset, name), 0) << name;
  }
  H5Pclose(properties);
  H5Dclose(dataset);
  H5Fclose(file);
  const auto shard = Hdf5File::open(step(1) / "shard-00000-of-00001.h5");
  expect_bitwise_equal("values", values, shard.read_tensor("model/layers.0.Float.weight"));
}

TEST_F(Store, ReplacesACheckpointOfTheSameStep) {
  save_checkpoint(step(3), example(1));
  save_checkpoint(step(3), example(2));
  expect_good(step(3), 2);
  EXPECT_FALSE(fs::exists(step(3).string() + ".old"));
}

TEST_F(Store, RefusesAFlippedBitAnywhere) {
  save_checkpoint(step(1), example(1), {{"config.yaml", "x"}});
  for (const char* name : {"shard-00000-of-00001.h5", "index.h5", "config.yaml"}) {
    const auto path = step(1) / name;
    for (const double place : {0.0, 0.3, 0.6, 0.99}) {
      const auto byte = static_cast<std::size_t>(place * static_cast<double>(fs::file_size(path)));
      flip_bit(path, byte);
      const std::string message = load_error(1);
      EXPECT_TRUE(contains(message, path.string() + " differs")) << message;
      flip_bit(path, byte);
    }
  }
  expect_good(step(1), 1);
}

TEST_F(Store, RefusesTruncatedAndMissingFiles) {
  save_checkpoint(step(1), example(1));
  const auto path = step(1) / "shard-00000-of-00001.h5";
  fs::resize_file(path, fs::file_size(path) - 1);
  EXPECT_TRUE(contains(load_error(1), path.string() + " has ")) << load_error(1);
  EXPECT_TRUE(
      contains(error_of([&] { load_checkpoint(step(1), {.verify = false}); }), path.string()));
  fs::remove(path);
  EXPECT_TRUE(contains(load_error(1), path.string() + " is missing")) << load_error(1);
}

TEST_F(Store, RefusesACheckpointWithoutItsManifest) {
  save_checkpoint(step(1), example(1));
  fs::remove(step(1) / "COMPLETE");
  EXPECT_TRUE(contains(load_error(1), "step-00000001 has no file COMPLETE")) << load_error(1);
  EXPECT_TRUE(contains(load_error(2), "step-00000002 is not a folder")) << load_error(2);
}

TEST_F(Store, RefusesADamagedManifest) {
  save_checkpoint(step(1), example(1));
  const auto path = step(1) / "COMPLETE";
  const std::string good = read_file(path);
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    flip_bit(path, byte);
    EXPECT_TRUE(contains(load_error(1), path.string())) << byte;
    flip_bit(path, byte);
  }
  for (std::size_t kept = 0; kept < good.size(); ++kept) {
    std::ofstream(path) << good.substr(0, kept);
    EXPECT_TRUE(contains(load_error(1), path.string())) << kept;
  }
}

TEST_F(Store, RefusesAnotherFormatVersion) {
  save_checkpoint(step(1), example(1));
  std::string contents = read_file(step(1) / "COMPLETE");
  contents.replace(contents.find(" 1\n"), 3, " 2\n");
  contents.erase(contents.find("digest "));
  write_file_atomically(step(1) / "COMPLETE", contents + "digest " + xxh3_128(contents) + "\n");
  const std::string message = load_error(1);
  EXPECT_TRUE(contains(message, "format version 2") && contains(message, "reads version 1"))
      << message;
}

TEST_F(Store, AFullDiskLeavesEarlierCheckpointsAndNoRemains) {
  save_checkpoint(step(1), example(1));
  const auto shard_bytes = fs::file_size(step(1) / "shard-00000-of-00001.h5");
  for (const std::size_t limit :
       {std::size_t{0}, std::size_t{300}, shard_bytes / 2, shard_bytes - 1}) {
    const std::string message = error_of([&] {
      const FileSizeLimit no_space(limit);
      save_checkpoint(step(2), example(2));
    });
    EXPECT_TRUE(contains(message, "step-00000002") && contains(message, "File too large"))
        << message;
    EXPECT_FALSE(fs::exists(step(2)));
    EXPECT_FALSE(fs::exists(step(2).string() + ".tmp"));
  }
  expect_good(step(1), 1);
  EXPECT_EQ(read_file(folder_ / "latest"), "step-00000001\n");
  save_checkpoint(step(2), example(2));
  expect_good(step(2), 2);
}

TEST_F(Store, AFailedReplacementLeavesTheOldCheckpoint) {
  save_checkpoint(step(1), example(1));
  EXPECT_THROW(save_checkpoint(step(1), {{{"model/x", at::ones({2}, at::kComplexFloat)}}, {}}),
               Error);
  expect_good(step(1), 1);
}

TEST_F(Store, RefusesFileNamesThatAreTakenOrUnsafe) {
  for (const char* name : {"", "COMPLETE", "index.h5", "a/b", "..", "two words"}) {
    EXPECT_THROW(save_checkpoint(step(1), example(1), {{name, "x"}}), Error) << name;
  }
  EXPECT_THROW(save_checkpoint(folder_ / "", example(1)), Error);
}

}  // namespace
}  // namespace braid
