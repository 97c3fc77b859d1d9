#pragma once
// Every tensor of a model, once, under its release name. Layers hold handles to the same storage.
//
// Local letters: I inputs and O outputs of a matrix.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"
#include "model/expert_stream.h"
#include "model/linear.h"
#include "model/lora.h"

namespace braid {

/// Element `index` of a tensor's initial value; a pure function, so that any sharding gives the
/// same bits.
using Initializer = std::function<double(int64_t index)>;

struct Parameter {
  std::string name;     ///< release name; "*" runs over the experts (core/named_tensor.h)
  at::Tensor value;     ///< shape and type only (meta device) where `quantized` has the values
  bool trained = true;  ///< false: not moved by gradients (gate.bias, tid2eid)
  std::vector<Weight> quantized;  ///< codes, in the base: one matrix, or one for each expert
  /// Frozen, with the values of the source that it was read from: checkpoints leave it there.
  bool in_base = false;
  /// Products of activations read its floating values, rounded to their type: what has a working
  /// copy in a model that has some.
  bool is_rounded = false;
  int64_t entries_below = 0;  ///< of a table: its entries are in [0, entries_below)
};

/// Where the values of a model's parameters come from instead of being drawn.
struct WeightSource {
  /// The tensor of this release name.
  std::function<Weight(const std::string& name)> read;
  /// Whether this parameter ("*" for experts) is not trained: where the source has it quantized, it
  /// then stays so.
  std::function<bool(const std::string& name)> is_frozen;
  /// Whether a frozen tensor of this release name may stay in the source, see Parameter::in_base.
  /// Unset: all may.
  std::function<bool(const std::string& name)> in_base = {};
  /// Whether this parameter ("*" for experts) is not in the source, and drawn as without one.
  /// Unset: none is.
  std::function<bool(const std::string& name)> is_drawn = {};
  /// Where frozen experts ("*") that stay quantized are kept beside a model on another device than
  /// the CPU. Unset: on that device.
  std::function<WeightPlace(const std::string& name)> place = {};
  std::string described = "the source";  ///< for messages: the files
};

/// While it lives, models built by this thread have parameters with names and shapes but without
/// values (LibTorch's meta device), so that a model of any size takes no memory.
class WithoutValues {
 public:
  WithoutValues();
  ~WithoutValues();
  WithoutValues(const WithoutValues&) = delete;
  WithoutValues& operator=(const WithoutValues&) = delete;

 private:
  bool before_;
};

/// Whether passes round what ModelConfig::qat_experts and qat_indexer name.
struct QatUse {
  bool on = true;
};

/// Release names of the matrices of a layer's experts.
struct ExpertNames {
  std::string w1, w2, w3;
};

/// Collects the parameters while a model is built.
class Parameters {
 public:
  /// Floating-point parameters get `dtype`: float32 masters, or float64 in a float64 model.
  /// With a source, which must outlive the constructions, all values come from it, one tensor at a
  /// time. Values are made on the host, the same for every device, and then moved to `device`.
  /// With `working_copies` float32 masters that products round have bfloat16 copies
  /// (kernels/working_copy.h).
  Parameters(at::ScalarType dtype,
             uint64_t seed,
             double initializer_range,
             const WeightSource* source = nullptr,
             at::Device device = at::kCPU,
             std::optional<LoraConfig> lora = {},
             bool working_copies = false)
      : dtype_(dtype),
        seed_(seed),
        initializer_range_(initializer_range),
        source_(source),
        device_(device),
        working_copies_(working_copies),
        lora_(std::move(lora)),
        lora_use_(std::make_shared<LoraUse>()),
        qat_use_(std::make_shared<QatUse>()) {
    lora_use_->dropout = lora_ ? lora_->dropout : 0;
  }

  /// N(0, initializer_range^2) as a pure function of (seed, release name, element).
  at::Tensor normal(const std::string& name, at::IntArrayRef shape);
  /// The same; from a source they may stay quantized. Of a model on the CPU experts, a name with
  /// "*", then stay where the source has them (in a file mapping), other matrices are copied. On
  /// another device all are copied there, but for experts that WeightSource::place keeps elsewhere.
  Weight matrix(const std::string& name, at::IntArrayRef shape);
  /// matrix() whose values are always floating.
  Weight float_matrix(const std::string& name, at::IntArrayRef shape);
  /// `is_rounded`: products read what floating values there are as they are, see Parameter.
  ExpertWeights experts(const std::string& name, at::IntArrayRef shape_EOI, bool is_rounded = true);
  at::Tensor constant(const std::string& name, at::IntArrayRef shape, double value);
  at::Tensor filled(const std::string& name, at::IntArrayRef shape, const Initializer& value);
  /// Parameters that no gradient moves.
  at::Tensor untrained_constant(const std::string& name, at::IntArrayRef shape, double value);
  /// A table of integers in [0, below). Throws Error where its source has others.
  at::Tensor untrained_table(const std::string& name,
                             at::IntArrayRef shape,
                             int64_t below,
                             const std::function<int64_t(int64_t)>&);

  /// The adapter of the matrix {out, in} of this release name, whose A and B are declared: A
  /// uniform in +-1 / sqrt(in), B zero. Of the embedding, which is looked up, A is zero and B
  /// normal. Null where the matrix has no adapter. DoRA's magnitudes begin as the norms of the rows
  /// of the matrix, `weight`. `is_rounded`: products of activations read the matrix.
  std::shared_ptr<const Lora> adapter(const std::string& name,
                                      at::IntArrayRef shape,
                                      const Weight& weight = {},
                                      bool is_rounded = false);
  /// The same of the experts' matrices w1 [F, D], w2 [D, F] and w3 of these names ("*").
  ExpertAdapters expert_adapters(const ExpertNames& names, int64_t E, int64_t F, int64_t D);
  /// Of all adapters.
  const std::shared_ptr<LoraUse>& lora_use() const { return lora_use_; }
  const std::optional<LoraConfig>& lora() const { return lora_; }
  /// Of the whole model.
  const std::shared_ptr<QatUse>& qat_use() const { return qat_use_; }

  at::Device device() const { return device_; }
  /// What brings experts that are not kept on the device to it; null where all are.
  const std::shared_ptr<ExpertStream>& expert_stream() const { return expert_stream_; }
  const std::vector<Parameter>& all() const { return parameters_; }
  /// Of all working copies.
  int64_t working_copies_bytes() const;

  /// All tensors but the quantized ones, experts apart.
  std::vector<NamedTensor> tensors() const;

  /// Copies values in by release name. Parameters in the base keep its values unless they are
  /// given; then they are the run's own from here on. Throws Error that lists missing, unexpected
  /// and misshapen tensors, unless every other parameter is given exactly once.
  void load(const std::vector<NamedTensor>& values, const std::string& source);

 private:
  /// Declares a parameter; `fill` receives it on the host unless values are left out.
  at::Tensor add(const std::string& name,
                 at::IntArrayRef shape,
                 at::ScalarType dtype,
                 bool trained,
                 const std::function<void(at::Tensor&)>& fill);

  /// Whether the parameter's values come from a source.
  bool is_read(const std::string& name) const;
  bool stays_in_base(const std::string& name, const at::Tensor& value) const;

  /// The codes of a parameter that stays quantized, as the source has them; empty for any other.
  std::vector<Weight> quantized(const std::string& name, at::IntArrayRef shape) const;
  void add_quantized(const std::string& name, at::IntArrayRef shape, std::vector<Weight> weights);

  /// Declares a parameter of drawn values: a pure function of (seed, release name, element).
  at::Tensor drawn(const std::string& name,
                   at::IntArrayRef shape,
                   const std::function<double(uint64_t key, uint64_t index)>& draw);
  /// Its working copy, if it has one, for products that round the value; it is that of the
  /// parameter that was declared last.
  WorkingCopy rounded_copy(const at::Tensor& value);
  /// A and B of a matrix {..., out, in}.
  struct Factors {
    Weight a, b;
  };
  Factors factors(const LoraMatrix& matrix, at::IntArrayRef shape, bool is_rounded);
  Weight factor_b(const LoraMatrix& matrix, at::IntArrayRef shape, bool is_rounded);

  at::ScalarType dtype_;
  uint64_t seed_;
  double initializer_range_;
  const WeightSource* source_;
  at::Device device_;
  bool working_copies_;
  std::optional<LoraConfig> lora_;
  std::shared_ptr<LoraUse> lora_use_;
  std::shared_ptr<QatUse> qat_use_;
  std::shared_ptr<ExpertStream> expert_stream_;
  std::vector<Parameter> parameters_;
};

/// Prefixes names: `Scope(parameters, "layers.0.attn")` declares "layers.0.attn.wq_a.weight".
class Scope {
 public:
  Scope(Parameters& parameters, std::string prefix)
      : parameters_(parameters), prefix_(std::move(prefix)) {}

  Scope inner(const std::string& name) const { return {parameters_, path(name)}; }
  at::Device device() const { return parameters_.device(); }
  at::Tensor normal(const std::string& name, at::IntArrayRef shape) const {
    return parameters_.normal(path(name), shape);
  }
  /// A matrix {out, in} that products of activations read. It may stay quantized.
  Linear linear(const std::string& name, at::IntArrayRef shape) const {
    return adapted(name, shape, parameters_.matrix(path(name), shape), /*is_rounded=*/true);
  }
  /// One whose values are always floating.
  Linear float_linear(const std::string& name, at::IntArrayRef shape) const {
    return adapted(name, shape, parameters_.float_matrix(path(name), shape), /*is_rounded=*/true);
  }
  /// One that products of wide tensors read, as it is.
  Linear wide_linear(const std::string& name, at::IntArrayRef shape) const {
    return adapted(name, shape, parameters_.normal(path(name), shape), /*is_rounded=*/false);
  }
  /// {E, out, in}; a name with "*". See Parameters::experts().
  ExpertLinear expert_linear(const std::string& name,
                             at::IntArrayRef shape,
                             bool is_rounded = true) const {
    return ExpertLinear(parameters_.experts(path(name), shape, is_rounded));
  }
  ExpertAdapters expert_adapters(const ExpertNames& names, int64_t E, int64_t F, int64_t D) const {
    return parameters_.expert_adapters({path(names.w1), path(names.w2), path(names.w3)}, E, F, D);
  }
  std::shared_ptr<const LoraUse> lora_use() const { return parameters_.lora_use(); }
  std::shared_ptr<const QatUse> qat_use() const { return parameters_.qat_use(); }
  at::Tensor constant(const std::string& name, at::IntArrayRef shape, double value) const {
    return parameters_.constant(path(name), shape, value);
  }
  at::Tensor filled(const std::string& name,
                    at::IntArrayRef shape,
                    const Initializer& value) const {
    return parameters_.filled(path(name), shape, value);
  }
  at::Tensor untrained_constant(const std::string& name,
                                at::IntArrayRef shape,
                                double value) const {
    return parameters_.untrained_constant(path(name), shape, value);
  }
  at::Tensor untrained_table(const std::string& name,
                             at::IntArrayRef shape,
                             int64_t below,
                             const std::function<int64_t(int64_t)>& value) const {
    return parameters_.untrained_table(path(name), shape, below, value);
  }

 private:
  Linear adapted(const std::string& name,
                 at::IntArrayRef shape,
                 Weight weight,
                 bool is_rounded) const {
    Linear linear(std::move(weight));
    linear.set_adapter(parameters_.adapter(path(name), shape, linear.weight(), is_rounded));
    return linear;
  }

  std::string path(const std::string& name) const {
    return prefix_.empty() ? name : prefix_ + "." + name;
  }

  Parameters& parameters_;
  std::string prefix_;
};

/// Throws Error listing missing, unexpected and misshapen tensors unless `shapes` (by release name)
/// are exactly those of `parameters`, where those in the base may be missing.
void require_tensors_of(const Parameters& parameters,
                        const std::map<std::string, std::vector<int64_t>>& shapes,
                        const std::string& source);

}  // namespace braid
