#include "checkpoint/hdf5.h"

#include <atomic>
#include <filesystem>
#include <thread>

#include <ATen/ATen.h>

#include "tests/checkpoint/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using namespace testing;

TEST(Hdf5File, KeepsEveryBitOfEveryDtype) {
  const TemporaryFolder folder;
  const auto tensors = tensors_of_every_kind("model/");
  auto file = Hdf5File::create(folder / "a.h5");
  for (const auto& [name, value] : tensors) {
    file.write_tensor(name, value);
  }
  file.close();
  const auto again = Hdf5File::open(folder / "a.h5");
  std::vector<NamedTensor> read;
  for (const auto& name : again.tensor_names()) {
    read.push_back({name, again.read_tensor(name)});
  }
  expect_same_tensors(read, tensors);
}

TEST(Hdf5File, StoresBfloat16AsAFloatThatOtherProgramsWidenExactly) {
  const TemporaryFolder folder;
  const auto values = at::tensor({1.0, -2.5, 3.0e38, 1.0e-40, 0.0}, at::kDouble).to(at::kBFloat16);
  auto file = Hdf5File::create(folder / "a.h5");
  file.write_tensor("x", values);
  file.close();
  const hid_t id = H5Fopen((folder / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(id, "x", H5P_DEFAULT);
  auto widened = at::empty({5}, at::kFloat);
  EXPECT_GE(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, widened.data_ptr()),
            0);
  H5Dclose(dataset);
  H5Fclose(id);
  expect_bitwise_equal("x", widened, values.to(at::kFloat));
}

TEST(Hdf5File, VirtualDatasetsFindTheirSourceFromAnyWorkingFolder) {
  const TemporaryFolder folder;
  const auto tensors = tensors_of_every_kind("model/");
  auto shard = Hdf5File::create(folder / "shard.h5");
  auto index = Hdf5File::create(folder / "index.h5");
  for (const auto& [name, value] : tensors) {
    shard.write_tensor(name, value);
    index.write_virtual(name, value, "shard.h5");
  }
  shard.close();
  index.close();
  const auto old = std::filesystem::current_path();
  std::filesystem::current_path("/");
  std::filesystem::rename(folder / "shard.h5", folder / "moved.h5");
  std::filesystem::create_directory(folder / "elsewhere");
  std::filesystem::rename(folder / "index.h5", folder / "elsewhere/index.h5");
  std::filesystem::rename(folder / "moved.h5", folder / "elsewhere/shard.h5");
  const auto again = Hdf5File::open(folder / "elsewhere/index.h5");
  for (const auto& [name, value] : tensors) {
    if (value.numel() > 0) {
      expect_bitwise_equal(name, again.read_tensor(name), value);
    }
  }
  std::filesystem::current_path(old);
}

TEST(Hdf5File, KeepsAttributes) {
  const TemporaryFolder folder;
  const Hdf5Attributes attributes = {{"step", INT64_MIN},
                                     {"loss", 0.1},
                                     {"empty", ""},
                                     {"note", std::string("caf\u00e9 \n")},
                                     {"large", std::string(200'000, 'x')}};
  auto file = Hdf5File::create(folder / "a.h5");
  file.write_attributes("state", attributes);
  file.close();
  EXPECT_EQ(Hdf5File::open(folder / "a.h5").read_attributes("state"), attributes);
}

TEST(Hdf5File, NamesFileAndObjectInErrors) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(error_of([&] { Hdf5File::open(folder / "none.h5"); }), "none.h5"));
  auto file = Hdf5File::create(folder / "a.h5");
  file.write_tensor("model/x", at::ones({2}));
  const std::string twice = error_of([&] { file.write_tensor("model/x", at::ones({2})); });
  EXPECT_TRUE(contains(twice, "a.h5") && contains(twice, "'model/x'")) << twice;
  const std::string missing = error_of([&] { file.read_tensor("model/y"); });
  EXPECT_TRUE(contains(missing, "a.h5") && contains(missing, "'model/y'")) << missing;
  const std::string dtype =
      error_of([&] { file.write_tensor("z", at::ones({2}, at::kComplexFloat)); });
  EXPECT_TRUE(contains(dtype, "ComplexFloat")) << dtype;
}

// HDF5 by itself crashes here: in H5Fclose or at the program's exit.
TEST(Hdf5File, SurvivesAFullDiskAtAnySize) {
  const TemporaryFolder folder;
  for (const std::size_t limit : {0, 10, 1000, 5000, 20'000, 60'000, 100'000}) {
    const std::string message = error_of([&] {
      const FileSizeLimit no_space(limit);
      auto file = Hdf5File::create(folder / "a.h5");
      for (int i = 0; i < 30; ++i) {
        file.write_tensor("model/" + std::to_string(i), at::ones({1000}));
      }
      file.close();
    });
    EXPECT_TRUE(contains(message, "a.h5: File too large")) << limit << ": " << message;
    auto file = Hdf5File::create(folder / "a.h5");
    file.write_tensor("x", at::ones({3}));
    file.close();
    EXPECT_EQ(Hdf5File::open(folder / "a.h5").read_tensor("x").sum().item<float>(), 3);
  }
}

TEST(Hdf5File, ThreadsWaitForEachOther) {
  const TemporaryFolder folder;
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      const auto path = folder / (std::to_string(thread) + ".h5");
      for (int round = 0; round < 5; ++round) {
        auto file = Hdf5File::create(path);
        file.write_tensor("x", at::full({100}, thread));
        file.close();
        good += Hdf5File::open(path).read_tensor("x").sum().item<int64_t>() == 100 * thread;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(good, 20);
}

}  // namespace
}  // namespace braid
