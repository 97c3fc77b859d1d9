#include "train/losses.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/profile.h"

namespace braid {
namespace {

template <class Named>
std::size_t index_of(const std::vector<Named>& all, std::string_view name) {
  const auto found = std::ranges::find(all, name, &Named::name);
  require(found != all.end(), "the objective declares no loss '", name, "'");
  return static_cast<std::size_t>(found - all.begin());
}

at::Tensor double_tensor(const double* numbers, int64_t count) {
  return at::tensor(at::ArrayRef<double>(numbers, static_cast<std::size_t>(count)), at::kDouble);
}

}  // namespace

double Losses::value(std::string_view name) const {
  return terms[index_of(terms, name)].value;
}

std::vector<double> Losses::numbers() const {
  std::vector<double> numbers;
  for (const auto& term : terms) {
    numbers.push_back(term.value);
  }
  for (const auto& ratio : ratios) {
    numbers.insert(numbers.end(), {ratio.numerator, ratio.denominator});
  }
  for (const auto& load : load_E) {
    const double* loads = load.const_data_ptr<double>();
    numbers.insert(numbers.end(), loads, loads + load.numel());
  }
  return numbers;
}

void Losses::add(at::ArrayRef<double> numbers) {
  const double* next = numbers.begin();
  for (auto& term : terms) {
    term.value += *next++;
  }
  for (auto& ratio : ratios) {
    ratio.numerator += *next++;
    ratio.denominator += *next++;
  }
  for (auto& load : load_E) {
    load = load + double_tensor(next, load.numel());
    next += load.numel();
  }
}

void add(LossCounts& counts, const LossCounts& more) {
  for (const auto& [name, count] : more) {
    counts[name] += count;
  }
}

void MicroBatchLoss::add(std::string_view term, const at::Tensor& sum, double count) {
  const std::size_t index = index_of(losses_.terms, term);
  const auto mean = sum / (count > 0 ? count : 1);
  const double weight = losses_.terms[index].weight;
  if (weight != 0) {  // zeros are a gradient, and what has one takes a step
    const auto weighted = weight == 1 ? mean : weight * mean;
    total_ = total_.defined() ? total_ + weighted : weighted;
  }
  values_.push_back({Kind::kTerm, index, mean.detach()});
}

void MicroBatchLoss::add_to_ratio(std::string_view ratio, const at::Tensor& sums) {
  values_.push_back({Kind::kRatio, index_of(losses_.ratios, ratio), sums.detach()});
}

void MicroBatchLoss::add_load(const at::Tensor& load_E) {
  values_.push_back({Kind::kLoad, 0, load_E.detach()});
}

void MicroBatchLoss::backward() {
  if (total_.defined() && total_.requires_grad()) {
    const ProfileScope scope("backward pass", ProfileKind::kStep);  // its nodes have their parts
    total_.backward();
  }
  total_.reset();
}

std::vector<Losses> MicroBatchLoss::read_all(const std::vector<MicroBatchLoss>& micro_batches) {
  std::vector<at::Tensor> flat;
  for (const auto& each : micro_batches) {
    for (const auto& value : each.values_) {
      const auto device = flat.empty() ? value.numbers.device() : flat.front().device();
      flat.push_back(value.numbers.reshape({-1}).to(device, at::kDouble, /*non_blocking=*/true));
    }
  }
  const auto all = flat.empty() ? at::Tensor() : at::cat(flat).cpu();
  const double* next = all.defined() ? all.const_data_ptr<double>() : nullptr;
  std::vector<Losses> result;
  for (const auto& each : micro_batches) {
    auto& losses = result.emplace_back(each.losses_);
    for (const auto& [kind, index, numbers] : each.values_) {
      switch (kind) {
        case Kind::kTerm:
          losses.terms[index].value += next[0];
          break;
        case Kind::kRatio:
          losses.ratios[index].numerator += next[0];
          losses.ratios[index].denominator += next[1];
          break;
        case Kind::kLoad:
          losses.load_E.push_back(double_tensor(next, numbers.numel()));
          break;
      }
      next += numbers.numel();
    }
  }
  return result;
}

Losses sum_over_ranks(const std::vector<Losses>& micro_batches, Communicator& world) {
  std::vector<double> own;
  for (const auto& losses : micro_batches) {
    const auto numbers = losses.numbers();
    own.insert(own.end(), numbers.begin(), numbers.end());
  }
  Losses sum = micro_batches.front();  // its terms, all zero
  for (auto& term : sum.terms) {
    term.value = 0;
  }
  for (auto& ratio : sum.ratios) {
    ratio.numerator = ratio.denominator = 0;
  }
  for (auto& load : sum.load_E) {
    load = at::zeros_like(load);
  }
  const std::size_t size = own.size() / micro_batches.size();
  for (const auto& numbers : world.all_gather(own, "losses")) {
    for (std::size_t first = 0; first < numbers.size(); first += size) {
      sum.add(at::ArrayRef<double>(numbers).slice(first, size));
    }
  }
  return sum;
}

LossCounts sum_over_ranks(const LossCounts& own, const ProcessGrid& grid) {
  std::vector<double> numbers;
  for (const auto& [name, count] : own) {
    numbers.push_back(count);
  }
  // Added in the order of ranks: the same bits everywhere. Whole numbers are exact.
  LossCounts all = own;
  for (auto& [name, count] : all) {
    count = 0;
  }
  for (const auto& of_rank : grid.world->all_gather(numbers, "token counts")) {
    std::size_t next = 0;
    for (auto& [name, count] : all) {
      count += of_rank[next++] / static_cast<double>(grid.place.context_size);
    }
  }
  return all;
}

}  // namespace braid
