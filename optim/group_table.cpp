#include "optim/group_table.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include <ATen/ATen.h>

#include "core/config_value.h"
#include "core/error.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

using Row = std::array<std::string, 8>;

/// "layers.12.attn.wkv.weight" is before + "12" + after; names without a number have no number.
struct NumberedName {
  std::string before, number, after;
};

NumberedName numbered(const std::string& name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const auto part = name.substr(begin, end - begin);
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string::npos) {
      return {name.substr(0, begin), part, name.substr(end)};
    }
    begin = end + 1;
  }
  return {name, "", ""};
}

/// "3", or "{0-2,5}" for several ascending numbers.
std::string ranges(const std::vector<std::string>& numbers) {
  if (numbers.size() == 1) {
    return numbers.front();
  }
  std::string result;
  for (std::size_t first = 0; first < numbers.size();) {
    std::size_t last = first;
    while (last + 1 < numbers.size() &&
           std::stoll(numbers[last + 1]) == std::stoll(numbers[last]) + 1) {
      ++last;
    }
    result += (first > 0 ? "," : "") + numbers[first] + (last > first ? "-" + numbers[last] : "");
    first = last + 1;
  }
  return "{" + result + "}";
}

/// Parameters that differ in their layer number only.
struct Line {
  NumberedName name;
  const GroupedParameter* first;
  std::vector<std::string> numbers;

  bool takes(const NumberedName& other, const GroupedParameter& grouped) const {
    return name.before == other.before && name.after == other.after &&
           first->parameter.value.sizes() == grouped.parameter.value.sizes() &&
           first->optimizer == grouped.optimizer && first->row_blocks == grouped.row_blocks &&
           first->learning_rate_scale == grouped.learning_rate_scale &&
           first->weight_decay == grouped.weight_decay;
  }

  Row row() const {
    const auto& value = first->parameter.value;
    const auto count = static_cast<int64_t>(numbers.size());
    std::string matrices = "-";
    if (first->optimizer == OptimizerKind::kMuon) {
      const auto view = matrices_of(*first, value);
      matrices = text(count * view.size(0), " x ", view.size(1), "x", view.size(2));
    }
    const bool is_frozen = first->is_frozen();
    return {name.before + ranges(numbers) + name.after,
            enum_name(first->optimizer),
            text(value.sizes()),
            std::to_string(count),
            matrices,
            is_frozen ? "-" : real_text(first->learning_rate_scale),
            is_frozen ? "-" : real_text(first->weight_decay),
            std::to_string(count * value.numel())};
  }
};

template <std::size_t Columns>
std::string aligned_rows(const std::vector<std::array<std::string, Columns>>& rows,
                         const std::array<bool, Columns>& right) {
  std::array<std::size_t, Columns> widths = {};
  for (const auto& row : rows) {
    for (std::size_t column = 0; column < Columns; ++column) {
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  std::string result;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t column = 0; column < Columns; ++column) {
      const std::string padding(widths[column] - row[column].size(), ' ');
      line += (column > 0 ? "  " : "") +
              (right[column] ? padding + row[column] : row[column] + padding);
    }
    result += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return result;
}

}  // namespace

std::string group_table(const std::vector<GroupedParameter>& parameters) {
  std::vector<Line> lines;
  for (const auto& grouped : parameters) {
    const auto name = numbered(grouped.parameter.name);
    auto line = std::find_if(lines.begin(), lines.end(), [&](const Line& other) {
      return !name.number.empty() && other.takes(name, grouped);
    });
    if (line == lines.end()) {
      line = lines.insert(line, {name, &grouped, {}});
    }
    line->numbers.push_back(name.number);
  }
  std::vector<Row> rows = {
      {"parameter", "optimizer", "shape", "tensors", "matrices", "lr", "decay", "elements"}};
  for (const auto& line : lines) {
    rows.push_back(line.row());
  }
  return aligned_rows(rows, {false, false, false, false, false, false, false, true});
}

std::string group_summary(const std::vector<GroupedParameter>& parameters) {
  struct Sum {
    std::string optimizer, learning_rate, decay;
    int64_t elements = 0, tensors = 0;
    std::vector<std::string> parts;  // in the order of the parameters
  };
  std::vector<Sum> sums;
  for (const auto& grouped : parameters) {
    const bool is_frozen = grouped.is_frozen();
    const std::string optimizer = enum_name(grouped.optimizer);
    const auto learning_rate = is_frozen ? "-" : real_text(grouped.learning_rate_scale);
    const auto decay = is_frozen ? "-" : real_text(grouped.weight_decay);
    auto sum = std::ranges::find_if(sums, [&](const Sum& other) {
      return other.optimizer == optimizer && other.learning_rate == learning_rate &&
             other.decay == decay;
    });
    if (sum == sums.end()) {
      sum = sums.insert(sum, {optimizer, learning_rate, decay, 0, 0, {}});
    }
    sum->elements += grouped.parameter.value.numel();
    ++sum->tensors;
    const std::string part(name_of(part_of(grouped.parameter.name)));
    if (std::ranges::find(sum->parts, part) == sum->parts.end()) {
      sum->parts.push_back(part);
    }
  }
  std::vector<std::array<std::string, 6>> rows = {
      {"optimizer", "lr", "decay", "elements", "tensors", "parts"}};
  for (const auto& sum : sums) {
    rows.push_back({sum.optimizer,
                    sum.learning_rate,
                    sum.decay,
                    std::to_string(sum.elements),
                    std::to_string(sum.tensors),
                    joined(sum.parts)});
  }
  return aligned_rows(rows, {false, false, false, true, true, false});
}

}  // namespace braid
