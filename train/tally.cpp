#include "train/tally.h"

#include <cmath>
#include <sstream>

namespace braid {

void Tally::add(const std::string& mean, double sum, double count) {
  add(mean, {Kind::kMean, sum, count});
}

void Tally::add_squares(const std::string& rms, double sum, double count) {
  add(rms, {Kind::kRms, sum, count});
}

void Tally::raise(const std::string& maximum, double value) {
  add(maximum, {Kind::kMaximum, value, 1});
}

void Tally::add(const Tally& other) {
  for (const auto& [name, number] : other.numbers_) {
    add(name, number);
  }
}

void Tally::add(const std::string& name, const Number& number) {
  const auto [found, is_new] = numbers_.emplace(name, number);
  if (is_new) {
    return;
  }
  auto& sum = found->second;
  require(sum.kind == number.kind, "[tally] '", name, "' is both a sum and a maximum");
  if (sum.kind == Kind::kMaximum) {  // a NaN stays
    sum.value = std::isnan(sum.value) || sum.value >= number.value ? sum.value : number.value;
  } else {
    sum.value += number.value;
    sum.count += number.count;
  }
}

void Tally::merge(Communicator& ranks, const char* what) {
  if (ranks.size() == 1) {
    return;
  }
  std::string names;
  std::vector<double> numbers;
  for (const auto& [name, number] : numbers_) {
    names += name + "\n";
    numbers.insert(numbers.end(), {static_cast<double>(number.kind), number.value, number.count});
  }
  const auto names_of_ranks = ranks.all_gather(names, what);
  const auto numbers_of_ranks = ranks.all_gather(numbers, what);
  numbers_.clear();
  for (std::size_t r = 0; r < names_of_ranks.size(); ++r) {
    std::istringstream lines(names_of_ranks[r]);
    std::size_t next = 0;
    for (std::string name; std::getline(lines, name); next += 3) {
      const auto& of_rank = numbers_of_ranks[r];
      add(name, {static_cast<Kind>(of_rank[next]), of_rank[next + 1], of_rank[next + 2]});
    }
  }
}

std::vector<std::pair<std::string, double>> Tally::values() const {
  std::vector<std::pair<std::string, double>> values;
  for (const auto& [name, number] : numbers_) {
    if (number.kind == Kind::kMaximum) {
      values.emplace_back(name, number.value);
    } else if (number.count > 0) {
      const double mean = number.value / number.count;
      values.emplace_back(name, number.kind == Kind::kRms ? std::sqrt(mean) : mean);
    }
  }
  return values;
}

}  // namespace braid
