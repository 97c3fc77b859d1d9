// Saving and loading a checkpoint against writing and reading plain files of the same size, by as
// many processes: checkpoint_bench [MB] [FOLDER] [ROUNDS], alone or under mpirun. Files are forced
// to the disk when written, and leave the page cache before they are read.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include "checkpoint/store.h"
#include "core/error.h"
#include "core/file.h"
#include "parallel/mpi_world.h"
#include "train/checkpoint_saver.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = 16 << 20;  // bytes

void leave_cache(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY);
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  ::close(file);
}

// Seconds until every rank has done it.
double timed(Communicator& ranks, const std::function<void()>& action) {
  ranks.barrier("start");
  const auto start = std::chrono::steady_clock::now();
  action();
  ranks.barrier("end");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Weights and momentum of matrices, as a rank of a training run has them.
std::vector<TensorPiece> pieces_of_size(int64_t bytes, int64_t rank) {
  std::vector<NamedTensor> tensors;
  constexpr int64_t kRows = 1024, kColumns = 4096;
  for (int64_t i = 0; bytes > 0; ++i, bytes -= 4 * kRows * kColumns) {
    tensors.push_back({text("model/rank-", rank, ".", i, ".weight"), at::rand({kRows, kColumns})});
  }
  return whole(tensors);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void measure(Communicator& ranks, int64_t megabytes, const fs::path& folder, int rounds) {
  fs::create_directories(folder);
  const auto pieces = pieces_of_size((megabytes << 20) / ranks.size(), ranks.rank());
  int64_t own_bytes = 0;
  for (const auto& piece : pieces) {
    own_bytes += static_cast<int64_t>(piece.value.nbytes());
  }
  const auto all_bytes = static_cast<double>(ranks.sum({own_bytes}, "bytes")[0]);
  const fs::path plain = folder / text("plain-", ranks.rank());
  const fs::path checkpoint = folder / "step-00000001";
  const auto block = at::rand({static_cast<int64_t>(kBlock / 4)});
  std::vector<char> buffer(kBlock);
  auto read_to = pieces_of_size((megabytes << 20) / ranks.size(), ranks.rank());

  const auto write_plain = [&] {
    const int file = ::open(plain.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    for (int64_t left = own_bytes; left > 0; left -= kBlock) {
      const auto size = std::min<std::size_t>(kBlock, static_cast<std::size_t>(left));
      require(::write(file, block.const_data_ptr(), size) == static_cast<ssize_t>(size),
              plain.string(),
              ": cannot be written");
    }
    require(::fsync(file) == 0, plain.string(), ": cannot be written");
    ::close(file);
  };
  const auto save = [&] {
    CheckpointSaver saver(ranks, /*background=*/false, /*deflate_level=*/0);
    saver.start(checkpoint, pieces, {{"step", int64_t{1}}}, {});
    saver.finish();
  };
  const auto read_plain = [&] {
    const int file = ::open(plain.c_str(), O_RDONLY);
    while (::read(file, buffer.data(), kBlock) > 0) {
    }
    ::close(file);
  };
  const auto load = [&] {
    const auto loaded = load_checkpoint(
        checkpoint, {.part = ranks.rank(), .parts = ranks.size(), .assemble = false});
    for (const auto& piece : read_to) {
      require(read_piece(loaded, piece), piece.name, " is missing");
    }
  };

  // A virtual machine's host may have taken back the memory that a removed file had in the page
  // cache, and giving it again takes longer than the disk: both kinds of writing begin with pages
  // that are there.
  const auto warm_cache = [&] {
    write_plain();
    fs::remove(plain);
  };

  std::vector<double> plain_writes, saves, plain_reads, loads;
  for (int round = 0; round < rounds; ++round) {
    ranks.first_alone([&] { fs::remove_all(checkpoint); }, "the last round's checkpoint");
    warm_cache();
    saves.push_back(timed(ranks, save));
    warm_cache();
    plain_writes.push_back(timed(ranks, write_plain));
    leave_cache(plain);
    for (const auto& entry : fs::directory_iterator(checkpoint)) {
      leave_cache(entry.path());
    }
    plain_reads.push_back(timed(ranks, read_plain));
    loads.push_back(timed(ranks, load));
  }
  fs::remove(plain);
  ranks.first_alone([&] { fs::remove_all(checkpoint); }, "the last checkpoint");
  if (ranks.rank() == 0) {
    const auto speed = [&](const std::vector<double>& seconds) {
      return all_bytes / 1e6 / median(seconds);
    };
    std::printf("%lld ranks, %.0f MB, median of %d rounds\n",
                static_cast<long long>(ranks.size()),
                all_bytes / 1e6,
                rounds);
    std::printf("plain write %.0f MB/s, save %.0f MB/s: %.2f\n",
                speed(plain_writes),
                speed(saves),
                speed(saves) / speed(plain_writes));
    std::printf("plain read %.0f MB/s, load %.0f MB/s: %.2f\n",
                speed(plain_reads),
                speed(loads),
                speed(loads) / speed(plain_reads));
  }
}

}  // namespace
}  // namespace braid

int main(int argc, char** argv) {
  const int64_t megabytes = argc > 1 ? std::atoll(argv[1]) : 1024;
  const std::string folder = argc > 2 ? argv[2] : "checkpoint_bench.tmp";
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  if (!braid::MpiWorld::was_launched()) {
    const auto self = braid::alone();
    braid::measure(*self, megabytes, folder, rounds);
    return 0;
  }
  const braid::MpiWorld world;
  const auto all = world.communicator();
  braid::measure(*all, megabytes, folder, rounds);
  return 0;
}
