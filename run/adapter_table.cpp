#include "run/adapter_table.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "core/config_value.h"
#include "core/error.h"
#include "core/named_tensor.h"
#include "core/parameter_names.h"
#include "run/grouped_parameters.h"
#include "run/table.h"

namespace braid {
namespace {

struct AdapterRow {
  std::string target, matrices;  // "attention", "layers.*.attn.wq_a.weight"
  int64_t rank = 0;
  double alpha = 0;
  int64_t count = 0, parameters = 0;
};

// "layers.3.attn.wq_b.weight" -> "layers.*.attn.wq_b.weight"
std::string in_all_layers(const std::string& name) {
  const auto [block, leaf] = split_block(name);
  return block.empty() ? name
                       : std::string(block.substr(0, block.find('.'))) + ".*." + std::string(leaf);
}

}  // namespace

std::string adapter_table(const RunConfig& config) {
  const auto lora = config.lora();
  if (!lora) {
    return {};
  }
  const auto model = model_without_values(config);
  std::map<std::string, int64_t> elements;
  for (const auto& parameter : model.parameters().all()) {
    elements[parameter.name] = parameter.value.numel();
  }
  std::vector<AdapterRow> rows;
  std::set<std::string> counted;  // w1 and w3 share their A
  int64_t count = 0, parameters = 0;
  for (const auto& parameter : model.parameters().all()) {
    const auto matrix = lora_matrix(*lora, parameter.name);
    if (!matrix) {
      continue;
    }
    const auto& target = lora->targets.items[*lora->target_of(parameter.name)];
    const auto name = in_all_layers(parameter.name);
    auto row = std::ranges::find_if(rows, [&](const AdapterRow& other) {
      return other.target == target && other.matrices == name && other.rank == matrix->rank &&
             other.alpha == matrix->alpha;
    });
    if (row == rows.end()) {
      row = rows.insert(row, {target, name, matrix->rank, matrix->alpha});
    }
    const int64_t matrices = is_stack(parameter.name) ? parameter.value.size(0) : 1;
    int64_t added = elements.at(matrix->b_name);
    added += lora->dora ? elements.at(lora_magnitude_name(parameter.name)) : 0;
    added += counted.insert(matrix->a_name).second ? elements.at(matrix->a_name) : 0;
    row->count += matrices;
    row->parameters += added;
    count += matrices;
    parameters += added;
  }
  TextTable table({"adapters of", "target", ">rank", ">alpha", ">matrices", ">parameters"});
  for (const auto& row : rows) {
    table.add({row.matrices,
               row.target,
               std::to_string(row.rank),
               real_text(row.alpha),
               std::to_string(row.count),
               std::to_string(row.parameters)});
  }
  table.add({"all", "", "", "", std::to_string(count), std::to_string(parameters)});
  return table.text();
}

}  // namespace braid
