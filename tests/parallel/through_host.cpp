#include "tests/parallel/through_host.h"

#include <utility>

#include <ATen/ATen.h>

namespace braid::testing {
namespace {

// An exchange of copies; what arrived goes on to its device when it is over.
class CopiedPending : public Pending {
 public:
  CopiedPending(std::unique_ptr<Pending> copies, at::Tensor arrived, at::Tensor received)
      : copies_(std::move(copies)), arrived_(std::move(arrived)), received_(std::move(received)) {}

  void wait() override {
    if (!received_.defined()) {
      return;
    }
    copies_->wait();
    received_.copy_(arrived_);
    arrived_.reset();
    received_.reset();
  }

 private:
  std::unique_ptr<Pending> copies_;
  at::Tensor arrived_, received_;
};

class ThroughHost : public Communicator {
 public:
  explicit ThroughHost(std::unique_ptr<Communicator> host) : host_(std::move(host)) {}

  int64_t rank() const override { return host_->rank(); }
  int64_t size() const override { return host_->size(); }

  std::unique_ptr<Pending> start_all_to_all(const at::Tensor& send,
                                            const std::vector<int64_t>& send_rows,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& received_rows,
                                            const char* what) override {
    return copied(send, received, [&](const at::Tensor& sent, const at::Tensor& arrived) {
      return host_->start_all_to_all(sent, send_rows, arrived, received_rows, what);
    });
  }

  std::unique_ptr<Pending> start_all_gather(const at::Tensor& send,
                                            const at::Tensor& received,
                                            const std::vector<int64_t>& rows,
                                            const char* what) override {
    return copied(send, received, [&](const at::Tensor& sent, const at::Tensor& arrived) {
      return host_->start_all_gather(sent, arrived, rows, what);
    });
  }

  std::unique_ptr<Communicator> split(int64_t color) override {
    return through_host(host_->split(color));
  }

 private:
  template <class Start>
  std::unique_ptr<Pending> copied(const at::Tensor& send,
                                  const at::Tensor& received,
                                  const Start& start) {
    std::unique_ptr<Pending> pending;
    if (received.is_cpu()) {
      pending = start(send, received);
    } else {
      const auto arrived = at::empty(received.sizes(), received.options().device(at::kCPU));
      pending = std::make_unique<CopiedPending>(start(send.cpu(), arrived), arrived, received);
    }
    bytes_sent_ = host_->bytes_sent();
    return pending;
  }

  std::unique_ptr<Communicator> host_;
};

}  // namespace

std::unique_ptr<Communicator> through_host(std::unique_ptr<Communicator> host) {
  return std::make_unique<ThroughHost>(std::move(host));
}

}  // namespace braid::testing
