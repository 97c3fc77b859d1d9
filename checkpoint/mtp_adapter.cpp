#include "checkpoint/mtp_adapter.h"

#include <charconv>
#include <cmath>
#include <map>
#include <string>
#include <string_view>

#include <ATen/ATen.h>

#include "checkpoint/adapter_tensor.h"
#include "checkpoint/safetensors.h"
#include "core/config_value.h"
#include "core/error.h"
#include "core/named_tensor.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kAlphaOf = "braid.alpha.";

class MtpAdapterReader {
 public:
  MtpAdapterReader(const fs::path& file, bool rslora, bool dora)
      : file_(file), name_(file.string()), rslora_(rslora), dora_(dora) {}

  std::vector<LowRankUpdate> read() {
    for (const auto& [key, value] : file_.metadata()) {
      if (key.starts_with(kAlphaOf)) {
        add_all(key.substr(kAlphaOf.size()), alpha_of(key, value));
      }
    }
    for (const auto& name : file_.names()) {
      require(read_.contains(name),
              name_,
              ": '",
              name,
              "' is of no matrix of the MTP block whose alpha the metadata have (",
              kAlphaOf,
              "MATRIX)");
    }
    require(!updates_.empty(), name_, ": holds no adapters of the MTP block");
    return std::move(updates_);
  }

 private:
  double alpha_of(const std::string& key, const std::string& value) const {
    double alpha = 0;
    const auto* end = value.data() + value.size();
    const auto [stopped, error] = std::from_chars(value.data(), end, alpha);
    require(error == std::errc() && stopped == end && std::isfinite(alpha) && alpha > 0,
            name_,
            ": ",
            key,
            " of the metadata is '",
            value,
            "'; expected a number above 0");
    return alpha;
  }

  void add_all(const std::string& matrix, double alpha) {
    const auto* kind = kind_of(matrix);
    require(is_mtp(matrix) && kind != nullptr &&
                (kind->role == ParameterRole::kLinear || kind->role == ParameterRole::kMatrix),
            name_,
            ": '",
            matrix,
            "' is no matrix of the MTP block; expected names such as mtp.0.attn.wq_a.weight");
    if (!kind->is_expert()) {
      add(matrix, alpha);
      return;
    }
    require(with_starred_expert(matrix) == matrix && matrix.find('*') != std::string::npos,
            name_,
            ": '",
            matrix,
            "' has the alpha of one expert; expected one of all, under mtp.0.ffn.experts.*");
    int64_t expert = 0;
    for (; file_.contains(lora_b_name(name_in_stack(matrix, expert))); ++expert) {
      add(name_in_stack(matrix, expert), alpha);
    }
    require(expert > 0, name_, ": has no ", lora_b_name(name_in_stack(matrix, 0)));
  }

  void add(const std::string& matrix, double alpha) {
    const auto a_rI = values_of(lora_a_name(matrix), 2), b_Or = values_of(lora_b_name(matrix), 2);
    const auto where = text(name_, ": ", matrix);
    require_one_rank(a_rI, b_Or, where);
    const auto rank = static_cast<double>(a_rI.size(0));
    LowRankUpdate update{matrix, a_rI, b_Or, alpha, alpha / (rslora_ ? std::sqrt(rank) : rank)};
    if (dora_) {
      update.magnitude_O = values_of(lora_magnitude_name(matrix), 1);
      require_magnitude_of(b_Or, update.magnitude_O, where);
    }
    updates_.push_back(std::move(update));
  }

  // One tensor for w1 and w3, which share their A.
  at::Tensor values_of(const std::string& name, int64_t dimensions) {
    if (const auto known = read_.find(name); known != read_.end()) {
      return known->second;
    }
    require(file_.contains(name), name_, ": has no ", name, "; is the file complete?");
    return read_.emplace(name, adapter_tensor(file_, name_, name, dimensions)).first->second;
  }

  SafetensorsFile file_;
  std::string name_;
  bool rslora_, dora_;
  std::map<std::string, at::Tensor> read_;
  std::vector<LowRankUpdate> updates_;
};

}  // namespace

void write_mtp_adapter(const fs::path& file, const std::vector<LowRankUpdate>& updates) {
  std::map<std::string, at::Tensor> by_name;  // w1 and w3 share their A
  std::map<std::string, std::string> metadata;
  for (const auto& update : updates) {
    const auto key = text(kAlphaOf, with_starred_expert(update.matrix));
    const auto alpha = metadata.emplace(key, real_text(update.alpha)).first->second;
    require(alpha == real_text(update.alpha),
            update.matrix,
            ": has alpha ",
            update.alpha,
            ", another expert of its layer ",
            alpha,
            "; experts of a layer have one alpha");
    by_name.emplace(lora_a_name(update.matrix), update.a_rI);
    by_name.emplace(lora_b_name(update.matrix), update.b_Or);
    if (update.magnitude_O.defined()) {
      by_name.emplace(lora_magnitude_name(update.matrix), update.magnitude_O);
    }
  }
  std::vector<NamedTensor> tensors;
  for (const auto& [name, value] : by_name) {
    tensors.push_back({name, value});
  }
  write_safetensors(file, tensors, metadata);
}

std::vector<LowRankUpdate> read_mtp_adapter(const fs::path& file, bool rslora, bool dora) {
  return MtpAdapterReader(file, rslora, dora).read();
}

}  // namespace braid
