#include "optim/group_table.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include <ATen/ATen.h>

#include "core/error.h"

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

std::string optimizer_name(OptimizerKind kind) {
  for (const auto& [name, value] : enum_names(kind)) {
    if (value == kind) {
      return name;
    }
  }
  fail("[group_table] an optimizer without a name");
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
            optimizer_name(first->optimizer),
            text(value.sizes()),
            std::to_string(count),
            matrices,
            is_frozen ? "-" : real_text(first->learning_rate_scale),
            is_frozen ? "-" : real_text(first->weight_decay),
            std::to_string(count * value.numel())};
  }
};

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
  Row widest;
  for (const auto& row : rows) {
    for (std::size_t column = 0; column < row.size(); ++column) {
      widest[column].resize(std::max(widest[column].size(), row[column].size()), ' ');
    }
  }
  std::string result;
  for (const auto& row : rows) {
    for (std::size_t column = 0; column < row.size(); ++column) {
      const auto padding = widest[column].substr(row[column].size());
      const bool is_last = column + 1 == row.size();
      result += is_last ? padding + row[column] + "\n" : row[column] + padding + "  ";
    }
  }
  return result;
}

}  // namespace braid
