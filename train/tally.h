#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/communicator.h"

namespace braid {

/// Named numbers that are made of many: means, root mean squares and maxima, of one rank or of all.
class Tally {
 public:
  /// Adds `count` values whose sum is `sum` to the mean of this name.
  void add(const std::string& mean, double sum, double count);
  /// The same of squares, to a root mean square.
  void add_squares(const std::string& rms, double sum, double count);
  void raise(const std::string& maximum, double value);

  void add(const Tally& other);

  /// This and all other ranks' tallies as one, in the order of ranks: the same on every rank. They
  /// need not have the same names.
  void merge(Communicator& ranks, const char* what);

  /// Means and roots of what was counted, and maxima, by name. NaN of NaN.
  std::vector<std::pair<std::string, double>> values() const;

 private:
  enum class Kind { kMean, kRms, kMaximum };
  struct Number {
    Kind kind = Kind::kMean;
    double value = 0;  // a sum or a maximum
    double count = 0;
  };

  void add(const std::string& name, const Number& number);

  std::map<std::string, Number> numbers_;
};

}  // namespace braid
