#include "parallel/gradient_sync.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "core/error.h"
#include "core/profile.h"
#include "core/random.h"
#include "core/random_tensor.h"
#include "core/sizes.h"

namespace braid {

struct GradientSync::Hook : torch::autograd::PostAccumulateGradHook {
  Hook(GradientSync& its_sync, std::size_t its_parameter)
      : sync(its_sync), parameter(its_parameter) {}
  void operator()(const torch::autograd::Variable&) override { sync.micro_batch_done(parameter); }
  GradientSync& sync;
  std::size_t parameter;
};

GradientSync::GradientSync(Communicator& ranks,
                           std::vector<SyncedParameter> parameters,
                           const SyncOptions& options)
    : ranks_(ranks),
      owners_(ranks.split(ranks.rank() / options.owner_group)),
      peers_(ranks.split(ranks.rank() % options.owner_group)),
      parameters_(std::move(parameters)),
      options_(options) {
  require(ranks.size() % options.owner_group == 0,
          "[gradient_sync] owner groups of ",
          options.owner_group,
          " do not divide ",
          ranks.size(),
          " ranks");
  fill_buckets();
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_[i].value,
                                                   std::make_unique<Hook>(*this, i));
  }
  partials_.resize(parameters_.size());
}

GradientSync::~GradientSync() {
  for (const auto& parameter : parameters_) {
    torch::autograd::impl::set_post_acc_grad_hooks(parameter.value, nullptr);
  }
}

// From the last parameter to the first, as the backward pass reaches them; those whose gradients
// are not final before its end come last.
void GradientSync::fill_buckets() {
  std::vector<std::size_t> order;
  for (const bool early : {true, false}) {
    for (std::size_t i = parameters_.size(); i-- > 0;) {
      if (parameters_[i].ready_when_summed == early) {
        order.push_back(i);
      }
    }
  }
  const auto add = [this](const Slice& slice) {
    const auto& value = parameters_[slice.parameter].value;
    const int64_t elements = slice.range.end - slice.range.begin;
    if (buckets_.empty() ||
        parameters_[buckets_.back().slices[0].parameter].value.scalar_type() !=
            value.scalar_type() ||
        (buckets_.back().elements + elements) * value.element_size() > options_.bucket_bytes) {
      buckets_.emplace_back();
    }
    buckets_.back().slices.push_back(slice);
    buckets_.back().elements += elements;
  };
  for (const std::size_t i : order) {
    for (const auto& range : parameters_[i].ranges) {
      add({i, range});
    }
  }
  buckets_of_.resize(parameters_.size());
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    auto& slices = buckets_[b].slices;
    std::ranges::stable_sort(slices, {}, [](const Slice& slice) { return slice.range.owner; });
    for (const auto& slice : slices) {
      auto& its = buckets_of_[slice.parameter];
      if (its.empty() || its.back() != b) {
        its.push_back(b);
      }
    }
  }
}

void GradientSync::begin_step(int64_t step, std::vector<bool> learns) {
  step_ = step;
  learns_ = std::move(learns);
  reached_.assign(parameters_.size(), false);
  completed_.assign(parameters_.size(), false);
  micro_batch_ = 0;
  next_bucket_ = 0;
  for (auto& partials : partials_) {
    partials.clear();
  }
  for (auto& bucket : buckets_) {
    bucket.waiting_for = 0;
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    for (const std::size_t bucket : buckets_of_[i]) {
      buckets_[bucket].waiting_for += learns_[i];
    }
  }
}

void GradientSync::begin_micro_batch(bool is_last) {
  if (options_.fixed_order && micro_batch_ > 0) {
    // What the pass left undefined, or added to several times, joins the tree now.
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (learns_[i]) {
        auto& partials = partials_[i];
        auto& gradient = parameters_[i].value.mutable_grad();
        partials.push_back(
            {1, gradient.defined() ? gradient : at::zeros_like(parameters_[i].value.detach())});
        gradient.reset();
        while (partials.size() > 1 && partials.end()[-2].count == partials.back().count) {
          const at::NoGradGuard no_grad;
          partials.end()[-2].sum.add_(partials.back().sum);
          partials.end()[-2].count *= 2;
          partials.pop_back();
        }
      }
    }
  }
  ++micro_batch_;
  is_last_ = is_last;
}

void GradientSync::micro_batch_done(std::size_t parameter) {
  reached_[parameter] = true;
  if (is_last_ && learns_[parameter] && parameters_[parameter].ready_when_summed) {
    complete(parameter);
    launch_ready();
  }
}

// The rank's own sum of a parameter's gradients is there.
void GradientSync::complete(std::size_t parameter) {
  if (completed_[parameter]) {
    return;
  }
  completed_[parameter] = true;
  const at::NoGradGuard no_grad;
  auto& value = parameters_[parameter].value;
  auto& gradient = value.mutable_grad();
  if (!gradient.defined()) {
    gradient = at::zeros_like(value.detach());
  } else if (!gradient.is_contiguous()) {
    gradient = gradient.contiguous();
  }
  auto& partials = partials_[parameter];
  while (!partials.empty()) {
    partials.back().sum.add_(gradient);
    gradient = partials.back().sum;
    partials.pop_back();
  }
  for (const std::size_t bucket : buckets_of_[parameter]) {
    --buckets_[bucket].waiting_for;
  }
}

void GradientSync::launch_ready() {
  if (ranks_.size() == 1) {
    return;
  }
  while (next_bucket_ < buckets_.size() && buckets_[next_bucket_].waiting_for == 0) {
    if (flights_.size() == kMostFlights) {
      land();
    }
    launch(next_bucket_++);
  }
}

void GradientSync::finish() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (learns_[i]) {
      complete(i);
    }
  }
  launch_ready();
  while (!flights_.empty()) {
    land();
  }
  while (!flights_across_.empty()) {
    land_across();
  }
}

at::TensorOptions GradientSync::options_of(const Bucket& bucket) const {
  return parameters_[bucket.slices.front().parameter].value.options();
}

at::Tensor GradientSync::slice_of(const Slice& slice, bool of_gradient) const {
  const auto& value = parameters_[slice.parameter].value;
  return (of_gradient ? value.grad() : value.detach())
      .view(-1)
      .slice(0, slice.range.begin, slice.range.end);
}

void GradientSync::launch(std::size_t index) {
  const ProfileScope scope("exchange", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  const auto& bucket = buckets_[index];
  const bool rounds = options_.reduce_dtype == ReduceType::kBfloat16;
  std::vector<int64_t> rows(static_cast<std::size_t>(options_.owner_group), 0);
  std::vector<at::Tensor> parts;
  for (const auto& slice : bucket.slices) {
    if (learns(slice)) {
      const auto part = slice_of(slice, /*of_gradient=*/true);
      rows[static_cast<std::size_t>(slice.range.owner)] += part.numel();
      parts.push_back(
          rounds ? stochastically_rounded(part,
                                          random_key(parameters_[slice.parameter].key,
                                                     text("step ", step_, " rank ", ranks_.rank())),
                                          slice.range.begin)
                 : part);
    }
  }
  const auto options = rounds ? options_of(bucket).dtype(at::kBFloat16) : options_of(bucket);
  const auto send = parts.empty() ? at::empty({0}, options) : at::cat(parts);
  const int64_t own = rows[static_cast<std::size_t>(owners_->rank())];
  const auto received = at::empty({owners_->size() * own}, options);
  auto pending =
      owners_->start_all_to_all(send,
                                rows,
                                received,
                                std::vector(static_cast<std::size_t>(owners_->size()), own),
                                "gradients");
  flights_.push_back({index, received, std::move(pending)});
}

at::Tensor GradientSync::sum_of(Flight& flight, int64_t of_ranks) const {
  flight.pending->wait();
  const auto type =
      parameters_[buckets_[flight.bucket].slices.front().parameter].value.scalar_type();
  return tree_sum(flight.received.view({of_ranks, -1}).to(type).unbind(0));
}

// Waits for the oldest bucket: this rank's part, summed over its owner group, goes on to the owners
// of the same in other groups.
void GradientSync::land() {
  const ProfileScope scope("exchange", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  auto flight = std::move(flights_.front());
  flights_.erase(flights_.begin());
  const auto sum = sum_of(flight, owners_->size());
  if (peers_->size() == 1) {
    put(flight.bucket, sum);
    return;
  }
  if (flights_across_.size() == kMostFlights) {
    land_across();
  }
  const auto received = at::empty({peers_->size() * sum.numel()}, sum.options());
  auto pending =
      peers_->start_all_gather(sum,
                               received,
                               std::vector(static_cast<std::size_t>(peers_->size()), sum.numel()),
                               "gradients of other groups");
  flights_across_.push_back({flight.bucket, received, std::move(pending)});
}

void GradientSync::land_across() {
  const at::NoGradGuard no_grad;
  auto flight = std::move(flights_across_.front());
  flights_across_.erase(flights_across_.begin());
  put(flight.bucket, sum_of(flight, peers_->size()));
}

// Sums of what this rank owns.
void GradientSync::put(std::size_t index, const at::Tensor& sum) {
  const auto& bucket = buckets_[index];
  int64_t next = 0;
  for (const auto& slice : bucket.slices) {
    if (learns(slice) && slice.range.owner == owners_->rank()) {
      auto target = slice_of(slice, /*of_gradient=*/true);
      target.copy_(sum.narrow(0, next, target.numel()));
      next += target.numel();
    }
  }
}

void GradientSync::share_weights() {
  if (owners_->size() == 1) {
    return;
  }
  const ProfileScope scope("exchange", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  std::vector<Flight> flights;
  const auto arrive = [&] {
    auto flight = std::move(flights.front());
    flights.erase(flights.begin());
    flight.pending->wait();
    int64_t next = 0;
    for (const auto& slice : buckets_[flight.bucket].slices) {
      if (learns(slice)) {
        auto target = slice_of(slice, /*of_gradient=*/false);
        if (slice.range.owner != owners_->rank()) {
          target.copy_(flight.received.narrow(0, next, target.numel()));
        }
        next += target.numel();
      }
    }
  };
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    const auto options = options_of(buckets_[b]);
    std::vector<int64_t> rows(static_cast<std::size_t>(options_.owner_group), 0);
    std::vector<at::Tensor> own;
    int64_t all = 0;
    for (const auto& slice : buckets_[b].slices) {
      if (learns(slice)) {
        const int64_t elements = slice.range.end - slice.range.begin;
        rows[static_cast<std::size_t>(slice.range.owner)] += elements;
        all += elements;
        if (slice.range.owner == owners_->rank()) {
          own.push_back(slice_of(slice, /*of_gradient=*/false));
        }
      }
    }
    if (flights.size() == kMostFlights) {
      arrive();
    }
    const auto received = at::empty({all}, options);
    flights.push_back(
        {b,
         received,
         owners_->start_all_gather(own.empty() ? at::empty({0}, options) : at::cat(own),
                                   received,
                                   rows,
                                   "updated weights")});
  }
  while (!flights.empty()) {
    arrive();
  }
}

namespace {

// Carrying a random 16-bit number into the upper half of the bits rounds up as often as it is near.
// The largest finite values round down rather than to infinity, and a NaN whose payload is in the
// lower half must not become an infinity.
constexpr int64_t kExponent = 0x7f80, kQuiet = 0x40;  // of the upper half

at::Tensor rounded_on_host(const at::Tensor& given, uint64_t key, int64_t first) {
  auto rounded = at::empty(given.sizes(), given.options().dtype(at::kBFloat16));
  const float* in = given.const_data_ptr<float>();
  auto* out = static_cast<uint16_t*>(rounded.mutable_data_ptr());
  at::parallel_for(0, given.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto bits = std::bit_cast<uint32_t>(in[i]);
      const bool finite = std::isfinite(in[i]);
      const auto noise =
          static_cast<uint32_t>(random_bits(key, static_cast<uint64_t>(first + i)) & 0xffff);
      uint32_t upper = (bits + (finite ? noise : 0)) >> 16;
      if ((upper & kExponent) == kExponent && finite) {
        upper = bits >> 16;
      }
      out[i] = static_cast<uint16_t>(upper | (std::isnan(in[i]) ? kQuiet : 0));
    }
  });
  return rounded;
}

// The same in plain LibTorch.
at::Tensor rounded_on_device(const at::Tensor& given, uint64_t key, int64_t first) {
  const int64_t count = given.numel();
  const auto integers = given.options().dtype(at::kLong);
  // Two elements, of which each takes the lower word of its half, for one counter.
  const auto words = philox_words(key, at::arange(first / 2, (first + count + 1) / 2, integers));
  const auto noise =
      words.slice(1, 0, 4, 2).reshape(-1).narrow(0, first % 2, count).bitwise_and(0xffff);
  const auto bits = given.view(at::kInt).to(at::kLong).bitwise_and(0xffffffff).reshape(-1);
  const auto flat = given.reshape(-1);
  const auto finite = flat.isfinite();
  const auto carried = (bits + noise * finite).bitwise_right_shift(16);
  const auto overflows = finite.logical_and(carried.bitwise_and(kExponent) == kExponent);
  const auto upper = at::where(overflows, bits.bitwise_right_shift(16), carried)
                         .bitwise_or(flat.isnan().to(at::kLong) * kQuiet);
  const auto as_signed = upper - (upper >= 0x8000).to(at::kLong) * 0x10000;
  return as_signed.to(at::kShort).view(at::kBFloat16).view(given.sizes());
}

}  // namespace

at::Tensor stochastically_rounded(const at::Tensor& values, uint64_t key, int64_t first) {
  const auto given = values.to(at::kFloat).contiguous();
  return given.is_cpu() ? rounded_on_host(given, key, first) : rounded_on_device(given, key, first);
}

}  // namespace braid
