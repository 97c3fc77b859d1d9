#include "parallel/communicator.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/error_message.h"
#include "core/interruption.h"
#include "parallel/rows.h"

namespace braid {
namespace {

constexpr const char* kInterrupted = "\x1binterrupted";  // no error's message

struct Done : Pending {
  void wait() override {}
};

class SelfCommunicator : public Communicator {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  std::unique_ptr<Pending> start_all_to_all(const at::Tensor& send,
                                            const std::vector<int64_t>&,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>&,
                                            const char*) override {
    received.copy_(send);
    return std::make_unique<Done>();
  }
  std::unique_ptr<Pending> start_all_gather(const at::Tensor& send,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>&,
                                            const char*) override {
    received.copy_(send);
    return std::make_unique<Done>();
  }
  std::unique_ptr<Communicator> split(int64_t) override { return alone(); }
};

// Rows of one type, any number from each rank.
template <class T>
std::vector<std::vector<T>> gathered(Communicator& group,
                                     const T* data,
                                     const std::vector<int64_t>& sizes,
                                     at::ScalarType type,
                                     const char* what) {
  const int64_t own = sizes[static_cast<std::size_t>(group.rank())];
  const auto send = at::empty({own}, type),
             received = at::empty({std::accumulate(sizes.begin(), sizes.end(), int64_t{0})}, type);
  if (own > 0) {
    std::memcpy(send.mutable_data_ptr(), data, static_cast<std::size_t>(own) * sizeof(T));
  }
  group.start_all_gather(send, received, sizes, what)->wait();
  std::vector<std::vector<T>> result;
  const auto* next = static_cast<const T*>(received.const_data_ptr());
  for (const int64_t size : sizes) {
    result.emplace_back(next, next + size);
    next += size;
  }
  return result;
}

}  // namespace

int64_t row_bytes(const at::Tensor& tensor) {
  return tensor.element_size() * c10::multiply_integers(tensor.sizes().slice(1));
}

void require_rows(const at::Tensor& tensor,
                  const std::vector<int64_t>& rows,
                  int64_t ranks,
                  const char* what) {
  require(static_cast<int64_t>(rows.size()) == ranks && tensor.dim() > 0 &&
              std::accumulate(rows.begin(), rows.end(), int64_t{0}) == tensor.size(0),
          "[communicator] ",
          what,
          ": the rows of ",
          tensor.sizes(),
          " are not those of ",
          ranks,
          " ranks: ",
          at::IntArrayRef(rows));
}

std::unique_ptr<Communicator> alone() {
  return std::make_unique<SelfCommunicator>();
}

void Communicator::barrier(const char* what) {
  all_gather(std::vector<int64_t>{0}, what);
}

std::vector<std::vector<int64_t>> Communicator::all_gather(const std::vector<int64_t>& numbers,
                                                           const char* what) {
  const std::vector<int64_t> sizes(static_cast<std::size_t>(size()),
                                   static_cast<int64_t>(numbers.size()));
  return gathered(*this, numbers.data(), sizes, at::kLong, what);
}

std::vector<std::vector<double>> Communicator::all_gather(const std::vector<double>& numbers,
                                                          const char* what) {
  std::vector<int64_t> sizes;
  for (const auto& each :
       all_gather(std::vector<int64_t>{static_cast<int64_t>(numbers.size())}, what)) {
    sizes.push_back(each[0]);
  }
  return gathered(*this, numbers.data(), sizes, at::kDouble, what);
}

std::vector<std::string> Communicator::all_gather(const std::string& text, const char* what) {
  std::vector<int64_t> sizes;
  for (const auto& each :
       all_gather(std::vector<int64_t>{static_cast<int64_t>(text.size())}, what)) {
    sizes.push_back(each[0]);
  }
  std::vector<std::string> texts;
  for (const auto& each : gathered(*this, text.data(), sizes, at::kChar, what)) {
    texts.emplace_back(each.begin(), each.end());
  }
  return texts;
}

std::string Communicator::from_first(const std::string& text, const char* what) {
  return all_gather(rank() == 0 ? text : std::string(), what).front();
}

std::vector<int64_t> Communicator::sum(const std::vector<int64_t>& numbers, const char* what) {
  std::vector<int64_t> total(numbers.size(), 0);
  for (const auto& each : all_gather(numbers, what)) {
    for (std::size_t i = 0; i < total.size(); ++i) {
      total[i] += each[i];
    }
  }
  return total;
}

void Communicator::all_or_none(const std::function<void()>& action, const char* what) {
  std::string problem;
  std::exception_ptr own;
  try {
    action();
  } catch (const Interrupted&) {
    problem = kInterrupted;
  } catch (const std::exception& error) {
    problem = message_of(error);
    problem = problem.empty() ? "unknown error" : problem;
    own = std::current_exception();
  }
  const auto problems = all_gather(problem, what);
  for (int64_t r = 0; r < size(); ++r) {
    const auto& first = problems[static_cast<std::size_t>(r)];
    if (first.empty() || first == kInterrupted) {
      continue;
    }
    if (r == rank()) {
      std::rethrow_exception(own);
    }
    throw ErrorOfAnotherRank(first);
  }
  if (std::ranges::find(problems, kInterrupted) != problems.end()) {
    agree_on_interruption(what);
    stop_if_interrupted();
  }
}

bool Communicator::agree_on_interruption(const char* what) {
  bool any = false;  // not interruption(): a signal may come after the others were told of none
  for (const auto& each : all_gather(std::vector<int64_t>{interruption()}, what)) {
    if (each[0] != 0) {
      request_interruption(static_cast<int>(each[0]));
      any = true;
    }
  }
  return any;
}

void Communicator::first_alone(const std::function<void()>& action, const char* what) {
  all_or_none(
      [&] {
        if (rank() == 0) {
          action();
        }
      },
      what);
}

at::Tensor tree_sum(std::vector<at::Tensor> parts) {
  require(!parts.empty(), "[tree_sum] there is nothing to sum");
  // At distance d = 1, 2, 4, ... each part at a multiple of 2 d takes the one d behind it.
  for (std::size_t d = 1; d < parts.size(); d *= 2) {
    for (std::size_t i = 0; i + d < parts.size(); i += 2 * d) {
      parts[i].add_(parts[i + d]);
    }
  }
  return parts[0];
}

}  // namespace braid
