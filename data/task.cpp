#include "data/task.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/file.h"
#include "data/text_documents.h"

namespace braid {
namespace {

constexpr int64_t kFillers = 8;

// Documents of a key come in parts, each drawn from numbers of its own, so that the problem is
// known without the rest.
enum class Part : uint64_t { kProblem, kLayout };
Draws draws(uint64_t key, Part part) {
  return Draws(random_bits(key, static_cast<uint64_t>(part)));
}

uint64_t hash_of(const std::vector<int64_t>& numbers) {
  return content_hash(
      {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(int64_t)});
}

std::vector<int64_t> part_of(const std::vector<int64_t>& ids, int64_t first, int64_t count) {
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

std::vector<int64_t> drawn(Draws& draws, const std::vector<int64_t>& of, int64_t count) {
  std::vector<int64_t> result(static_cast<std::size_t>(count));
  std::ranges::generate(result, [&] { return draws.one_of(of); });
  return result;
}

void copy_to(std::vector<int64_t>& ids, int64_t at, const std::vector<int64_t>& from) {
  std::ranges::copy(from, ids.begin() + static_cast<std::ptrdiff_t>(at));
}

/// The groups of different distances, in ascending order.
class DistanceGroups {
 public:
  explicit DistanceGroups(std::vector<int64_t> distances) : sorted_(std::move(distances)) {
    std::ranges::sort(sorted_);
    sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
  }

  std::size_t of(int64_t distance) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(sorted_, distance) - sorted_.begin());
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const int64_t distance : sorted_) {
      names.push_back(text("distance_", distance));
    }
    return names;
  }

 private:
  std::vector<int64_t> sorted_;
};

class Recall : public Task {
 public:
  Recall(const RecallOptions& options, const Tokenizer& tokenizer)
      : options_(options), distance_groups_(options.distances) {
    const int64_t n = options.symbols;
    const auto symbols = task_symbols(tokenizer, 2 * n + kFillers, "recall");
    keys_ = part_of(symbols, 0, n);
    values_ = part_of(symbols, n, n);
    fillers_ = part_of(symbols, 2 * n, kFillers);
    groups_ = distance_groups_.names();
  }

  uint64_t problem(uint64_t key) const final { return hash_of(pairs(key)); }
  int64_t num_tokens(uint64_t /*key*/) const final { return options_.length; }

  TaskDocument document(uint64_t key) const final {
    auto layout = draws(key, Part::kLayout);
    TaskDocument result{drawn(layout, fillers_, options_.length), {}};
    const auto pairs_of_key = pairs(key);
    std::vector<bool> taken(result.ids.size());
    for (const auto& [distance, pair] : longest_first(layout)) {
      const int64_t at = place(layout, taken, distance);
      const std::vector<int64_t> tokens = {pairs_of_key[2 * pair], pairs_of_key[2 * pair + 1]};
      for (const int64_t begin : {at, at + distance}) {
        copy_to(result.ids, begin, tokens);
        std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(begin), 2, true);
      }
      result.answers.push_back(
          {at + distance + 1, at + distance + 2, distance_groups_.of(distance)});
    }
    std::ranges::sort(result.answers, {}, &Answer::begin);
    return result;
  }

 private:
  // A key and its value, the next key and its value, ...
  std::vector<int64_t> pairs(uint64_t key) const {
    auto draws_of_pairs = draws(key, Part::kProblem);
    auto left = keys_;
    std::vector<int64_t> result;
    for (int64_t i = 0; i < options_.pairs; ++i) {
      const auto rest = static_cast<int64_t>(left.size()) - i;
      std::swap(left[static_cast<std::size_t>(i)],
                left[static_cast<std::size_t>(i + draws_of_pairs.below(rest))]);
      result.push_back(left[static_cast<std::size_t>(i)]);
      result.push_back(draws_of_pairs.one_of(values_));
    }
    return result;
  }

  struct Placed {
    int64_t distance;
    std::size_t pair;
  };
  // Distances take turns, beginning anywhere.
  std::vector<Placed> longest_first(Draws& layout) const {
    const auto& distances = options_.distances;
    const auto first =
        static_cast<std::size_t>(layout.below(static_cast<int64_t>(distances.size())));
    std::vector<Placed> order;
    for (std::size_t i = 0; i < static_cast<std::size_t>(options_.pairs); ++i) {
      order.push_back({distances[(first + i) % distances.size()], i});
    }
    std::ranges::stable_sort(order, std::greater<>(), &Placed::distance);
    return order;
  }

  // One of the places where the pair and its question find room; TaskOptions::validate() has seen
  // to it that there is one.
  int64_t place(Draws& layout, const std::vector<bool>& taken, int64_t distance) const {
    const auto is_free = [&](int64_t at) {
      return !taken[static_cast<std::size_t>(at)] && !taken[static_cast<std::size_t>(at + 1)];
    };
    std::vector<int64_t> places;
    for (int64_t at = 0; at + distance + 2 <= options_.length; ++at) {
      if (is_free(at) && is_free(at + distance)) {
        places.push_back(at);
      }
    }
    return layout.one_of(places);
  }

  RecallOptions options_;
  DistanceGroups distance_groups_;
  std::vector<int64_t> keys_, values_, fillers_;
};

class Copying : public Task {
 public:
  Copying(const CopyingOptions& options, const Tokenizer& tokenizer)
      : options_(options), distance_groups_(options.distances) {
    const auto symbols = task_symbols(tokenizer, options.symbols + kFillers + 1, "copying");
    symbols_ = part_of(symbols, 0, options.symbols);
    fillers_ = part_of(symbols, options.symbols, kFillers);
    mark_ = symbols.back();
    groups_ = distance_groups_.names();
  }

  uint64_t problem(uint64_t key) const final { return hash_of(sequence(key)); }
  int64_t num_tokens(uint64_t key) const final { return distance(key) + options_.sequence; }

  TaskDocument document(uint64_t key) const final {
    const int64_t apart = distance(key), size = apart + options_.sequence;
    auto layout = draws(key, Part::kLayout);
    layout.below(1);  // the number that distance() has used
    TaskDocument result{drawn(layout, fillers_, size), {{apart, size, distance_groups_.of(apart)}}};
    copy_to(result.ids, 0, sequence(key));
    copy_to(result.ids, apart - 1, {mark_});
    copy_to(result.ids, apart, sequence(key));
    return result;
  }

 private:
  std::vector<int64_t> sequence(uint64_t key) const {
    auto draws_of_sequence = draws(key, Part::kProblem);
    return drawn(draws_of_sequence, symbols_, options_.sequence);
  }
  int64_t distance(uint64_t key) const {
    return draws(key, Part::kLayout).one_of(options_.distances);
  }

  CopyingOptions options_;
  DistanceGroups distance_groups_;
  std::vector<int64_t> symbols_, fillers_;
  int64_t mark_ = 0;
};

class Needle : public Task {
 public:
  Needle(const NeedleOptions& options, const Tokenizer& tokenizer)
      : options_(options), distance_groups_(options.distances) {
    const int64_t n = options.symbols;
    const auto symbols = task_symbols(tokenizer, n + kFillers + 2, "needle");
    symbols_ = part_of(symbols, 0, n);
    fillers_ = part_of(symbols, n, kFillers);
    mark_ = symbols[static_cast<std::size_t>(n + kFillers)];
    question_ = symbols.back();
    if (!options.filler.empty()) {
      read_filler(tokenizer);
    }
    groups_ = distance_groups_.names();
    for (int64_t tenth = 0; options.distances.empty() && tenth < kTenths; ++tenth) {
      groups_.push_back(text("depth_", 100 / kTenths * tenth));
    }
  }

  uint64_t problem(uint64_t key) const final { return hash_of(key_and_value(key)); }
  int64_t num_tokens(uint64_t /*key*/) const final { return options_.length; }
  std::string digest() const final { return digest_; }

  TaskDocument document(uint64_t key) const final {
    const int64_t size = options_.length, answer = size - options_.sequence,
                  needle = 1 + kNeedleKey + options_.sequence;
    auto layout = draws(key, Part::kLayout);
    int64_t at = 0;
    std::size_t group = 0;
    if (options_.distances.empty()) {
      const int64_t places = size - 2 * needle + 1, tenth = layout.below(kTenths);
      const int64_t first = places * tenth / kTenths, end = places * (tenth + 1) / kTenths;
      at = first + layout.below(end - first);
      group = static_cast<std::size_t>(tenth);
    } else {
      const int64_t distance = layout.one_of(options_.distances);
      at = answer - distance - kNeedleKey - 1;
      group = distance_groups_.of(distance);
    }
    TaskDocument result{haystack(layout), {{answer, size, group}}};
    const auto tokens = key_and_value(key);
    copy_to(result.ids, at, {mark_});
    copy_to(result.ids, at + 1, tokens);
    copy_to(result.ids, size - needle, {question_});
    copy_to(result.ids, size - needle + 1, tokens);
    return result;
  }

 private:
  static constexpr int64_t kTenths = 10;

  void read_filler(const Tokenizer& tokenizer) {
    TextSource source;
    source.paths = {options_.filler};
    const auto documents = open_documents(source, tokenizer);
    for (Document document; documents->next(document);) {
      text_.insert(text_.end(), document.ids.begin(), document.ids.end());
    }
    require(static_cast<int64_t>(text_.size()) >= options_.length,
            options_.filler,
            ": has ",
            text_.size(),
            " tokens, fewer than the ",
            options_.length,
            " of a document of task needle; name a longer text, or none");
    digest_ = xxh3_128(
        {reinterpret_cast<const char*>(text_.data()), text_.size() * sizeof(text_.front())});
  }

  std::vector<int64_t> haystack(Draws& layout) const {
    if (text_.empty()) {
      return drawn(layout, fillers_, options_.length);
    }
    const auto starts = static_cast<int64_t>(text_.size()) - options_.length + 1;
    const auto begin = text_.begin() + static_cast<std::ptrdiff_t>(layout.below(starts));
    return {begin, begin + static_cast<std::ptrdiff_t>(options_.length)};
  }

  std::vector<int64_t> key_and_value(uint64_t key) const {
    auto draws_of_needle = draws(key, Part::kProblem);
    return drawn(draws_of_needle, symbols_, kNeedleKey + options_.sequence);
  }

  NeedleOptions options_;
  DistanceGroups distance_groups_;
  std::vector<int64_t> symbols_, fillers_;
  std::vector<int32_t> text_;
  std::string digest_;
  int64_t mark_ = 0, question_ = 0;
};

class Arithmetic : public Task {
 public:
  Arithmetic(const ArithmeticOptions& options, const Tokenizer& tokenizer) : options_(options) {
    for (const char* sign : {"+", "-", "*", "="}) {
      signs_.push_back(tokenizer.encode(sign).front());
    }
    numbers_ = task_symbols(
        tokenizer, options.modulus + static_cast<int64_t>(signs_.size()), "arithmetic");
    std::erase_if(numbers_, [&](int64_t id) { return std::ranges::count(signs_, id) > 0; });
    for (const auto& [name, operation] : enum_names(ArithmeticOperation{})) {
      groups_.emplace_back(name);
    }
  }

  uint64_t problem(uint64_t key) const final {
    const auto [a, b] = operands(key);
    return hash_of({a, b});
  }
  int64_t num_tokens(uint64_t /*key*/) const final { return kArithmeticTokens; }

  TaskDocument document(uint64_t key) const final {
    const auto [a, b] = operands(key);
    const auto operation = draws(key, Part::kLayout).one_of(options_.operations);
    const auto group = static_cast<std::size_t>(operation);
    const auto number = [&](int64_t value) { return numbers_[static_cast<std::size_t>(value)]; };
    return {{number(a), signs_[group], number(b), signs_.back(), number(result(operation, a, b))},
            {{4, 5, group}}};
  }

 private:
  struct Operands {
    int64_t a, b;
  };
  Operands operands(uint64_t key) const {
    auto draws_of_operands = draws(key, Part::kProblem);
    const int64_t a = draws_of_operands.below(options_.modulus);
    return {a, draws_of_operands.below(options_.modulus)};
  }

  int64_t result(ArithmeticOperation operation, int64_t a, int64_t b) const {
    const int64_t p = options_.modulus;
    switch (operation) {
      case ArithmeticOperation::kAdd:
        return (a + b) % p;
      case ArithmeticOperation::kSubtract:
        return (a - b + p) % p;
      case ArithmeticOperation::kMultiply:
        return a * b % p;
    }
    fail("unreachable: ArithmeticOperation");
  }

  ArithmeticOptions options_;
  std::vector<int64_t> numbers_;  // the first `modulus` of them
  std::vector<int64_t> signs_;    // of the operations in their order, and the equals sign
};

std::unique_ptr<Task> made(const RecallOptions& options, const Tokenizer& tokenizer) {
  return std::make_unique<Recall>(options, tokenizer);
}
std::unique_ptr<Task> made(const CopyingOptions& options, const Tokenizer& tokenizer) {
  return std::make_unique<Copying>(options, tokenizer);
}
std::unique_ptr<Task> made(const NeedleOptions& options, const Tokenizer& tokenizer) {
  return std::make_unique<Needle>(options, tokenizer);
}
std::unique_ptr<Task> made(const ArithmeticOptions& options, const Tokenizer& tokenizer) {
  return std::make_unique<Arithmetic>(options, tokenizer);
}

}  // namespace

std::unique_ptr<Task> make_task(const TaskOptions& options, const Tokenizer& tokenizer) {
  return std::visit([&](const auto& task) { return made(task, tokenizer); }, options.variant());
}

}  // namespace braid
