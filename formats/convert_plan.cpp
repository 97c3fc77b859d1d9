#include "formats/convert_plan.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "checkpoint/dtype.h"
#include "checkpoint/names.h"
#include "core/error.h"
#include "core/parameter_names.h"
#include "formats/model_json_keys.h"
#include "model/transformer.h"

namespace braid {
namespace {

std::string fp8_name(at::ScalarType scale_type) {
  return scale_type == at::kFloat ? "FP8 F32" : "FP8 E8M0";
}

bool is_fp8(const Weight& weight) {
  return weight.quantized() && weight.values.scalar_type() == at::kFloat8_e4m3fn;
}

bool is_fp4(const Weight& weight) {
  return weight.quantized() && !is_fp8(weight);
}

at::IntArrayRef logical_shape(const Weight& weight, std::vector<int64_t>& room) {
  if (!weight.quantized()) {
    return weight.values.sizes();
  }
  room = {weight.rows(), weight.columns()};
  return room;
}

std::vector<StoredTensor> as_stored(const std::string& name, const Weight& weight) {
  std::vector<StoredTensor> tensors = {
      {name, weight.values.scalar_type(), weight.values.sizes().vec()}};
  if (weight.quantized()) {
    tensors.push_back({scale_name(name), weight.scales.scalar_type(), weight.scales.sizes().vec()});
  }
  return tensors;
}

bool are_powers_of_two(const at::Tensor& scales) {
  const auto wide = scales.to(at::kFloat);
  return wide.to(at::kFloat8_e8m0fnu).to(at::kFloat).equal(wide);
}

Conversion cast(const std::string& name, const Weight& weight, at::ScalarType type) {
  if (!weight.quantized() && weight.values.scalar_type() == type) {
    return {.name = name, .stored = weight, .tensors = as_stored(name, weight)};
  }
  std::vector<int64_t> room;
  return {.name = name,
          .stored = weight,
          .encoding = Encoding::kCast,
          .type = type,
          .tensors = {{name, type, logical_shape(weight, room).vec()}}};
}

Conversion quantize(const std::string& name, const Weight& weight, ReleaseLayout layout) {
  const bool fp4 = stored_form(name, layout) == StoredForm::kFp4;
  const auto scale_type =
      fp4 || layout == ReleaseLayout::kInstruct ? at::kFloat8_e8m0fnu : at::kFloat;
  const bool same_codes = fp4 ? is_fp4(weight) : is_fp8(weight);
  if (same_codes && weight.scales.scalar_type() == scale_type) {
    return {.name = name, .stored = weight, .tensors = as_stored(name, weight)};
  }
  std::vector<int64_t> room;
  Conversion result{.name = name,
                    .stored = weight,
                    .encoding = fp4 ? Encoding::kFp4 : Encoding::kFp8,
                    .type = scale_type,
                    .tensors = stored_tensors(name, logical_shape(weight, room), layout)};
  if (same_codes && (scale_type == at::kFloat || are_powers_of_two(weight.scales))) {
    result.encoding = Encoding::kRescale;
  }
  return result;
}

// Hugging Face keeps norms in float32 whatever the model's dtype.
at::ScalarType floating_type(const std::string& name, StoredAs stored_as, ConvertTo to) {
  const bool wide = stored_as == StoredAs::kFloat32 ||
                    stored_form(name, ReleaseLayout::kInstruct) == StoredForm::kF32 ||
                    (to == ConvertTo::kHf && kind_of(name)->role == ParameterRole::kNorm);
  return wide ? at::kFloat : at::kBFloat16;
}

Conversion conversion_of(const std::string& name,
                         const Weight& weight,
                         ConvertTo to,
                         StoredAs stored_as) {
  const bool integral = c10::isIntegralType(weight.values.scalar_type(), /*includeBool=*/true);
  if (stored_as == StoredAs::kSame || (integral && !weight.quantized())) {
    return {.name = name, .stored = weight, .tensors = as_stored(name, weight)};
  }
  if (stored_as == StoredAs::kBfloat16 || stored_as == StoredAs::kFloat32) {
    return cast(name, weight, floating_type(name, stored_as, to));
  }
  const auto layout =
      stored_as == StoredAs::kInstruct ? ReleaseLayout::kInstruct : ReleaseLayout::kBase;
  switch (stored_form(name, layout)) {
    case StoredForm::kF32:
      return cast(name, weight, at::kFloat);
    case StoredForm::kBf16:
      return cast(name, weight, at::kBFloat16);
    case StoredForm::kI64:
      return cast(name, weight, at::kLong);
    case StoredForm::kFp8:
    case StoredForm::kFp4:
      return quantize(name, weight, layout);
  }
  fail("unreachable: StoredForm of ", name);
}

// Values change, so that they are encoded again, in the form that the target was to have.
void add_updates(const std::vector<LowRankUpdate>& updates, Conversion& conversion) {
  const auto& weight = conversion.stored;
  conversion.updates = updates;
  conversion.keeps_codes = weight.quantized() && conversion.encoding != Encoding::kCast &&
                           conversion.encoding != Encoding::kFp8 &&
                           conversion.encoding != Encoding::kFp4;
  if (conversion.encoding == Encoding::kRescale) {
    conversion.encoding = Encoding::kFp8;
  } else if (conversion.encoding == Encoding::kCopy) {
    conversion.encoding = is_fp4(weight)   ? Encoding::kFp4
                          : is_fp8(weight) ? Encoding::kFp8
                                           : Encoding::kCast;
    conversion.type =
        weight.quantized() ? weight.scales.scalar_type() : weight.values.scalar_type();
  }
}

// What training computed with. Codes of the format itself come out the same from the masters.
void round_as_trained(QuantFormat format, Conversion& conversion) {
  if (format == QuantFormat::kOff) {
    return;
  }
  const bool same_format = (format == QuantFormat::kFp4 && conversion.encoding == Encoding::kFp4) ||
                           (format == QuantFormat::kFp8 && conversion.encoding == Encoding::kFp8 &&
                            conversion.type == at::kFloat8_e8m0fnu);
  if (conversion.stored.quantized() || (same_format && conversion.updates.empty())) {
    return;
  }
  if (conversion.encoding == Encoding::kCopy) {
    conversion.encoding = Encoding::kCast;
    conversion.type = conversion.stored.values.scalar_type();
  }
  conversion.rounded_to = format;
}

}  // namespace

void require_expressible(const ModelConfig& config, ConvertTo to) {
  if (to != ConvertTo::kHf) {
    return;
  }
  constexpr const char* kWayOut =
      "; --to checkpoint keeps the model as it is, and --to release writes a folder that Braid "
      "reads";
  require(config.n_shared_experts == 1,
          "model.n_shared_experts is ",
          config.n_shared_experts,
          ": transformers' DeepSeek-V4 always has a shared expert, and would draw one at random",
          kWayOut);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto& [kind, word, is_released] = layer_word(config.layer(i).attention);
    require(is_released,
            "model.layer_types: layer ",
            i,
            " is ",
            enum_name(kind),
            ": transformers' DeepSeek-V4 has window, csa and hca layers only",
            kWayOut);
  }
}

StoredAs resolved(StoredAs wanted, ConvertTo to, const StoredModel& model) {
  const bool quantized = std::ranges::any_of(
      model.weights, [](const auto& entry) { return entry.second.quantized(); });
  if (to == ConvertTo::kCheckpoint) {
    require(wanted == StoredAs::kDefault || wanted == StoredAs::kSame,
            "a Braid checkpoint keeps weights as they are stored; leave --layout out");
    return StoredAs::kSame;
  }
  if (to == ConvertTo::kHf) {
    require(wanted != StoredAs::kInstruct && wanted != StoredAs::kBase &&
                !(wanted == StoredAs::kSame && quantized),
            "Hugging Face's names have no place for this release's codes and scales; use "
            "--layout bf16 or f32, or --to release");
  }
  if (wanted != StoredAs::kDefault) {
    return wanted;
  }
  if (!quantized) {
    return StoredAs::kSame;
  }
  if (to == ConvertTo::kHf) {
    return StoredAs::kBfloat16;
  }
  if (model.published == model.source) {
    return StoredAs::kSame;
  }
  for (const auto& [name, weight] : model.weights) {
    if (weight.quantized() && (is_fp4(weight) || weight.scales.scalar_type() == at::kFloat)) {
      return is_fp4(weight) ? StoredAs::kInstruct : StoredAs::kBase;
    }
  }
  return StoredAs::kInstruct;
}

std::vector<Conversion> conversions_of(const StoredModel& model,
                                       ConvertTo to,
                                       StoredAs stored_as,
                                       const MatrixUpdates& updates,
                                       std::vector<std::string>& left_out) {
  const WithoutValues without_values;
  const Transformer transformer(model.config, at::kFloat, /*seed=*/0);
  require_tensors_of(transformer.parameters(), shapes_of(model.weights), model.source);
  std::vector<Conversion> conversions;
  for (const auto& [name, value] : transformer.parameters().tensors()) {
    if (to == ConvertTo::kHf && !hf_place(name)) {
      left_out.push_back(name);
      continue;
    }
    conversions.push_back(conversion_of(name, model.weights.at(name), to, stored_as));
    if (const auto of_matrix = updates.find(name); of_matrix != updates.end()) {
      add_updates(of_matrix->second, conversions.back());
    }
    if (to != ConvertTo::kCheckpoint && is_expert(name)) {
      round_as_trained(model.config.qat_experts, conversions.back());
    }
  }
  for (const auto& [name, value] : model.drafter) {
    if (to == ConvertTo::kHf) {
      left_out.push_back(name);
    } else {
      conversions.push_back({.name = name,
                             .stored = Weight(value),
                             .tensors = as_stored(name, Weight(value)),
                             .of_drafter = true});
    }
  }
  return conversions;
}

std::string form_of(const Weight& weight) {
  return is_fp4(weight)   ? "FP4"
         : is_fp8(weight) ? fp8_name(weight.scales.scalar_type())
                          : dtype_name(weight.values.scalar_type());
}

std::string form_of(const Conversion& conversion) {
  switch (conversion.encoding) {
    case Encoding::kCopy:
      return form_of(conversion.stored);
    case Encoding::kCast:
      return dtype_name(conversion.type);
    case Encoding::kRescale:
    case Encoding::kFp8:
      return fp8_name(conversion.type);
    case Encoding::kFp4:
      return "FP4";
  }
  fail("unreachable: Encoding");
}

std::vector<StoredTensor> tensors_at_target(const std::vector<Conversion>& conversions,
                                            ConvertTo to) {
  std::vector<StoredTensor> tensors;
  std::map<std::string, std::size_t> stacks;  // name -> place in `tensors`
  for (const auto& conversion : conversions) {
    if (to != ConvertTo::kHf) {
      tensors.insert(tensors.end(), conversion.tensors.begin(), conversion.tensors.end());
      continue;
    }
    const auto place = *hf_place(conversion.name);
    const auto& [name, type, shape] = conversion.tensors.front();
    if (place.expert < 0) {
      tensors.push_back({place.name, type, shape});
      continue;
    }
    const auto [stack, is_new] = stacks.emplace(place.name, tensors.size());
    if (is_new) {
      tensors.push_back({place.name, type, {0, shape[0] * (place.in_half ? 2 : 1), shape[1]}});
    }
    require(tensors[stack->second].dtype == type,
            name,
            " is ",
            dtype_name(type),
            ", other experts of its layer ",
            dtype_name(tensors[stack->second].dtype),
            "; use --layout bf16 or f32");
    auto& experts = tensors[stack->second].shape[0];
    experts = std::max(experts, place.expert + 1);
  }
  return tensors;
}

}  // namespace braid
