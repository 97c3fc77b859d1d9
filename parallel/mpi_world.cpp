#include "parallel/mpi_world.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include <ATen/ATen.h>
#include <mpi.h>
#include <sched.h>

#include "core/error.h"
#include "core/profile.h"
#include "parallel/rows.h"
#include "parallel/waiting.h"

namespace braid {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kQuestion = 1, kAnswer = 2;  // tags on the control communicator

// What the process is at; read by the answering thread.
struct Activity {
  std::mutex mutex;
  std::string activity = "starting";
  std::vector<std::string> operations;  // that are waited for, the innermost last
  double timeout_seconds = 600;
};
Activity& activity() {
  static Activity the_one;
  return the_one;
}
std::atomic<int64_t> operations_under_way = 0;
MPI_Comm control_communicator = MPI_COMM_NULL;

std::string activity_text() {
  auto& shared = activity();
  const std::lock_guard lock(shared.mutex);
  return shared.operations.empty()
             ? shared.activity
             : text(shared.activity, ", waiting for ", shared.operations.back());
}

void check(int result, const char* what) {
  if (result != MPI_SUCCESS) {
    char reason[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(result, reason, &length);
    fail("MPI: ", what, ": ", std::string(reason, static_cast<std::size_t>(length)));
  }
}

// Asks every rank what it is at, and gives those that have not come two seconds.
std::string activities_of_others() {
  if (control_communicator == MPI_COMM_NULL) {
    return " there are none";
  }
  int rank = 0, size = 1;
  MPI_Comm_rank(control_communicator, &rank);
  MPI_Comm_size(control_communicator, &size);
  std::vector<std::string> answers(static_cast<std::size_t>(size));
  std::vector<MPI_Request> questions;
  for (int r = 0; r < size; ++r) {
    if (r != rank) {
      MPI_Isend(nullptr,
                0,
                MPI_BYTE,
                r,
                kQuestion,
                control_communicator,
                &questions.emplace_back(MPI_REQUEST_NULL));
    }
  }
  const auto deadline = Clock::now() + std::chrono::seconds(2);
  for (int left = size - 1; left > 0 && Clock::now() < deadline;) {
    int there = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, kAnswer, control_communicator, &there, &status);
    if (there == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    int length = 0;
    MPI_Get_count(&status, MPI_BYTE, &length);
    std::string answer(static_cast<std::size_t>(length), ' ');
    MPI_Recv(answer.data(),
             length,
             MPI_BYTE,
             status.MPI_SOURCE,
             kAnswer,
             control_communicator,
             MPI_STATUS_IGNORE);
    answers[static_cast<std::size_t>(status.MPI_SOURCE)] = answer;
    --left;
  }
  std::string result;
  for (int r = 0; r < size; ++r) {
    if (r != rank) {
      const auto& answer = answers[static_cast<std::size_t>(r)];
      result += text("\n  rank ", r, ": ", answer.empty() ? "does not answer" : answer);
    }
  }
  return result;
}

class MpiPending : public Pending {
 public:
  MpiPending(std::string what, std::vector<at::Tensor> kept)
      : what_(std::move(what)), kept_(std::move(kept)) {
    ++operations_under_way;
  }
  ~MpiPending() override {
    if (request_ != MPI_REQUEST_NULL) {  // given up because of an error elsewhere
      --operations_under_way;
    }
    for (auto& type : types_) {
      MPI_Type_free(&type);
    }
  }
  MpiPending(const MpiPending&) = delete;
  MpiPending& operator=(const MpiPending&) = delete;

  void wait() override {
    if (request_ == MPI_REQUEST_NULL) {
      return;
    }
    const ProfileScope scope("exchange", ProfileKind::kStep);
    const Waiting waiting(what_);
    int done = 0;
    for (int64_t round = 0; done == 0; ++round) {
      check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), what_.c_str());
      if (done != 0 || round < 64) {
        continue;
      }
      waiting.require_in_time();
      if (waiting.seconds() < 0.002) {
        sched_yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
    --operations_under_way;
    kept_.clear();  // autograd may keep this object for as long as one of them
  }

  MPI_Request request_ = MPI_REQUEST_NULL;
  std::vector<int> counts_[2], offsets_[2];
  std::vector<MPI_Datatype> types_;

 private:
  std::string what_;
  std::vector<at::Tensor> kept_;
};

class MpiCommunicator : public Communicator {
 public:
  /// Owns `communicator`.
  explicit MpiCommunicator(MPI_Comm communicator) : communicator_(communicator) {
    MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(communicator_, &rank_);
    MPI_Comm_size(communicator_, &size_);
  }
  ~MpiCommunicator() override {
    int ended = 0;
    MPI_Finalized(&ended);
    if (ended == 0) {
      MPI_Comm_free(&communicator_);
    }
  }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }

  std::unique_ptr<Pending> start_all_to_all(const at::Tensor& send,
                                            const std::vector<int64_t>& send_rows,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& received_rows,
                                            const char* what) override {
    auto pending = started(send, received, what);
    const auto send_type = row_type(send, *pending), received_type = row_type(received, *pending);
    lay_out(send, send_rows, *pending, 0, what);
    lay_out(received, received_rows, *pending, 1, what);
    check(MPI_Ialltoallv(send.const_data_ptr(),
                         pending->counts_[0].data(),
                         pending->offsets_[0].data(),
                         send_type,
                         received.mutable_data_ptr(),
                         pending->counts_[1].data(),
                         pending->offsets_[1].data(),
                         received_type,
                         communicator_,
                         &pending->request_),
          what);
    for (int r = 0; r < size_; ++r) {
      bytes_sent_ += r == rank_ ? 0 : send_rows[static_cast<std::size_t>(r)] * row_bytes(send);
    }
    return pending;
  }

  std::unique_ptr<Pending> start_all_gather(const at::Tensor& send,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& rows,
                                            const char* what) override {
    auto pending = started(send, received, what);
    const auto send_type = row_type(send, *pending), received_type = row_type(received, *pending);
    lay_out(received, rows, *pending, 1, what);
    require(send.size(0) == rows[static_cast<std::size_t>(rank_)],
            "[communicator] ",
            what,
            ": ",
            send.size(0),
            " rows are sent, ",
            rows[static_cast<std::size_t>(rank_)],
            " expected");
    check(MPI_Iallgatherv(send.const_data_ptr(),
                          static_cast<int>(send.size(0)),
                          send_type,
                          received.mutable_data_ptr(),
                          pending->counts_[1].data(),
                          pending->offsets_[1].data(),
                          received_type,
                          communicator_,
                          &pending->request_),
          what);
    bytes_sent_ += (size_ - 1) * send.size(0) * row_bytes(send);
    return pending;
  }

  std::unique_ptr<Communicator> split(int64_t color) override {
    MPI_Comm part = MPI_COMM_NULL;
    check(MPI_Comm_split(communicator_, static_cast<int>(color), rank_, &part), "split");
    return std::make_unique<MpiCommunicator>(part);
  }

 private:
  static std::unique_ptr<MpiPending> started(const at::Tensor& send,
                                             const at::Tensor& received,
                                             const char* what) {
    require(send.is_contiguous() && received.is_contiguous() && send.is_cpu() && received.is_cpu(),
            "[communicator] ",
            what,
            ": MPI exchanges contiguous tensors of the CPU");
    return std::make_unique<MpiPending>(what, std::vector{send, received});
  }

  // MPI counts in 32 bits: rows, not bytes, are its elements.
  static MPI_Datatype row_type(const at::Tensor& tensor, MpiPending& pending) {
    MPI_Datatype type = MPI_DATATYPE_NULL;
    MPI_Type_contiguous(static_cast<int>(row_bytes(tensor)), MPI_BYTE, &type);
    MPI_Type_commit(&type);
    return pending.types_.emplace_back(type);
  }

  void lay_out(const at::Tensor& tensor,
               const std::vector<int64_t>& rows,
               MpiPending& pending,
               int side,
               const char* what) const {
    require_rows(tensor, rows, size_, what);
    require(tensor.size(0) <= std::numeric_limits<int>::max(),
            "[communicator] ",
            what,
            ": MPI exchanges at most 2^31 - 1 rows at once, not ",
            tensor.size(0));
    int64_t offset = 0;
    for (const int64_t count : rows) {
      pending.counts_[side].push_back(static_cast<int>(count));
      pending.offsets_[side].push_back(static_cast<int>(offset));
      offset += count;
    }
  }

  MPI_Comm communicator_;
  int rank_ = 0, size_ = 1;
};

int64_t number_in(const char* variable, int64_t otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr ? std::strtoll(value, nullptr, 10) : otherwise;
}

}  // namespace

Waiting::Waiting(std::string what) : what_(std::move(what)), start_(Clock::now()) {
  auto& shared = activity();
  const std::lock_guard lock(shared.mutex);
  timeout_ = shared.timeout_seconds;
  shared.operations.push_back(what_);
}

Waiting::~Waiting() {
  auto& shared = activity();
  const std::lock_guard lock(shared.mutex);
  shared.operations.pop_back();
}

double Waiting::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void Waiting::require_in_time() const {
  if (seconds() >= timeout_) {
    fail(overdue_exchange(what_, timeout_));
  }
}

double exchange_timeout() {
  const std::lock_guard lock(activity().mutex);
  return activity().timeout_seconds;
}

std::string overdue_exchange(const std::string& what, double seconds) {
  std::string now;
  {
    const std::lock_guard lock(activity().mutex);
    now = activity().activity;
  }
  return text(now,
              ": ",
              what,
              ": other ranks have not come for ",
              seconds,
              " s (parallel.timeout_seconds):",
              activities_of_others());
}

// A thread that answers questions and keeps operations moving.
struct MpiWorld::Control {
  std::atomic<bool> ends = false;
  std::thread thread;

  void run() {
    auto last_look = Clock::now();
    while (!ends) {
      const bool busy = operations_under_way > 0;
      // Any call moves all operations on.
      int asked = 0;
      MPI_Status status;
      if (busy || Clock::now() - last_look > std::chrono::milliseconds(50)) {
        last_look = Clock::now();
        MPI_Iprobe(MPI_ANY_SOURCE, kQuestion, control_communicator, &asked, &status);
      }
      if (asked != 0) {
        MPI_Recv(nullptr,
                 0,
                 MPI_BYTE,
                 status.MPI_SOURCE,
                 kQuestion,
                 control_communicator,
                 MPI_STATUS_IGNORE);
        const auto answer = activity_text();
        MPI_Request sent = MPI_REQUEST_NULL;
        MPI_Isend(answer.data(),
                  static_cast<int>(answer.size()),
                  MPI_BYTE,
                  status.MPI_SOURCE,
                  kAnswer,
                  control_communicator,
                  &sent);
        MPI_Wait(&sent, MPI_STATUS_IGNORE);
      }
      std::this_thread::sleep_for(busy ? std::chrono::microseconds(200)
                                       : std::chrono::microseconds(2000));
    }
  }
};

bool MpiWorld::was_launched() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

LaunchedAs launched_as() {
  if (!MpiWorld::was_launched()) {
    return {};
  }
  return {number_in("OMPI_COMM_WORLD_RANK", number_in("PMIX_RANK", 0)),
          number_in("OMPI_COMM_WORLD_SIZE", number_in("SLURM_NTASKS", 1)),
          number_in("OMPI_COMM_WORLD_LOCAL_SIZE", number_in("SLURM_NTASKS_PER_NODE", 1)),
          number_in("OMPI_COMM_WORLD_LOCAL_RANK", number_in("SLURM_LOCALID", 0))};
}

MpiWorld::MpiWorld() : control_(std::make_unique<Control>()) {
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "start");
  require(provided == MPI_THREAD_MULTIPLE,
          "MPI: this installation does not let several threads communicate "
          "(MPI_THREAD_MULTIPLE); use OpenMPI 4 or newer as Debian builds it");
  check(MPI_Comm_dup(MPI_COMM_WORLD, &control_communicator), "start");
  control_->thread = std::thread([this] { control_->run(); });
}

MpiWorld::~MpiWorld() {
  control_->ends = true;
  control_->thread.join();
  MPI_Finalize();
}

std::unique_ptr<Communicator> MpiWorld::communicator() const {
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "start");
  return std::make_unique<MpiCommunicator>(copy);
}

void MpiWorld::set_timeout(double seconds) {
  const std::lock_guard lock(activity().mutex);
  activity().timeout_seconds = seconds;
}

void MpiWorld::set_activity(const std::string& now) {
  const std::lock_guard lock(activity().mutex);
  activity().activity = now;
}

void MpiWorld::await_abort(int status) {
  std::this_thread::sleep_for(std::chrono::seconds(10));
  MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

void MpiWorld::wait_for_rank_0_to_report() {
  if (const int64_t rank = launched_as().rank; rank > 0) {
    std::this_thread::sleep_for(
        std::chrono::milliseconds(1500 + std::min<int64_t>(rank, 20) * 100));
  }
}

void MpiWorld::abort(int status, const std::function<void()>& report) {
  wait_for_rank_0_to_report();
  report();
  MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

}  // namespace braid
