#pragma once
// Low-rank adapters (LoRA, arXiv:2106.09685): a product with W + scale B A, where W is frozen and
// only the small A [rank, in] and B [out, rank] are trained.
//
// Local letters: I inputs and O outputs of a matrix, r the rank.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config.h"
#include "model/linear.h"

namespace braid {

/// The matrices that get an adapter: patterns of release names ("*" = any characters, "?" = one;
/// experts are matched together, as in "layers.*.ffn.experts.*.w?.weight"), or the names of sets of
/// such patterns: "attention" (wq_a, wq_b, wkv and wo_b of the decoder layers), "experts" (the
/// routed ones), "all" (every matrix). `attention+experts` is the same as both in a list.
/// Matrices of an indexer are only taken by a pattern that says `indexer`, and by "all".
struct LoraTargets {
  std::vector<std::string> items = {"attention"};  ///< as written

  static constexpr const char* kConfigKind =
      "attention | attention+experts | all | [one of these or a pattern, ...]";
  static LoraTargets from_config(const ConfigNode& node,
                                 const std::string& path,
                                 ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// Overrides the rank of the adapters whose matrix's release name matches.
struct LoraRank {
  std::string match;
  int64_t rank = 16;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("match", &LoraRank::match, "release names of matrices; first match wins", required);
    v("rank", &LoraRank::rank, "their rank", between(1, 65536));
  }
};

/// The same for alpha.
struct LoraAlpha {
  std::string match;
  double alpha = 32;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("match", &LoraAlpha::match, "release names of matrices; first match wins", required);
    v("alpha", &LoraAlpha::alpha, "their alpha", more_than(0));
  }
};

/// The section `adapter` of a run.
struct LoraConfig {
  int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  bool rslora = false;
  bool dora = false;
  LoraTargets targets;
  std::vector<LoraRank> rank_pattern;
  std::vector<LoraAlpha> alpha_pattern;
  std::string init_from;

  template <class Visitor>
  static void fields(Visitor& v) {
    using C = LoraConfig;
    v("rank", &C::rank, "columns of B and rows of A", between(1, 65536));
    v("alpha", &C::alpha, "the adapter's part is alpha / rank times B A", more_than(0));
    v("dropout",
      &C::dropout,
      "share of the adapters' inputs that is left out in a training step; not for experts and "
      "other matrices that are no plain products",
      between(0, 0.99));
    v("rslora", &C::rslora, "alpha / the root of the rank instead of alpha / rank");
    v("dora",
      &C::dora,
      "also the norms of the adapted matrices' rows are trained (DoRA); for plain products");
    v("targets",
      &C::targets,
      "the matrices with an adapter: sets (attention, experts, all) and patterns of release names");
    v("rank_pattern", &C::rank_pattern, "other ranks for some of them");
    v("alpha_pattern", &C::alpha_pattern, "other alphas for some of them");
    v("init_from",
      &C::init_from,
      "train the adapters of this folder further, of PEFT's layout or a run; targets, ranks and "
      "alphas are what it has; empty = new ones");
  }

  /// The number in `targets.items` of what takes the matrix of this release name ("*" or "16+*" for
  /// experts), the first of several; nothing for one without an adapter.
  std::optional<std::size_t> target_of(const std::string& name) const;

  /// Throws ConfigError (keys below `prefix`) for what cannot be adapted: `names` are the
  /// parameters of the model. A target, rank or alpha that matches no matrix is named with the
  /// nearest names there are; w1 and w3 of experts, which share their A, need an adapter both.
  void validate(const std::vector<std::string>& names, const std::string& prefix = "adapter") const;
};

/// The adapter of one matrix, or of those of all experts of a layer.
struct LoraMatrix {
  std::string name;    ///< of the matrix: "layers.0.attn.wq_a.weight"
  std::string a_name;  ///< "layers.0.attn.wq_a.lora_A.weight" (core/parameter_names.h)
  std::string b_name;  ///< "layers.0.attn.wq_a.lora_B.weight"
  int64_t rank = 0;
  double alpha = 0;
  double scale = 0;  ///< alpha / rank, or alpha / the root of the rank
};

/// What the configuration says of the matrix of this release name; nothing where it has no adapter.
std::optional<LoraMatrix> lora_matrix(const LoraConfig& config, const std::string& name);

/// Sums of the squares of a matrix's rows [O], in `type`.
at::Tensor row_squares(const Weight& matrix, at::ScalarType type);

/// alpha / rank, or alpha / sqrt(rank).
double lora_scale(double alpha, int64_t rank, bool rslora);

/// What the adapters of a model do in the pass under way.
struct LoraUse {
  bool off = false;  ///< they add nothing: the pass is that of the base
  /// The share of their inputs that is left out. Which elements is a pure function of (key,
  /// adapter, element), so that a pass that runs again leaves out the same.
  double dropout = 0;
  std::optional<uint64_t> key = {};  ///< none: nothing is left out
};

/// The other part of DoRA (arXiv:2402.09353): the product becomes that of
/// magnitude (W + scale B A) / norms, with the norms of the rows of W + scale B A, constants to the
/// gradient.
struct LoraMagnitude {
  at::Tensor magnitude_O;  ///< wide, trained
  Weight base;             ///< W
};

/// scale B A beside a matrix [O, I].
class Lora : public Adapter {
 public:
  /// a_rI, b_Or wide masters; `use` is the model's, `name` the matrix's.
  Lora(std::string name,
       Weight a_rI,
       Weight b_Or,
       double scale,
       std::shared_ptr<const LoraUse> use,
       std::optional<LoraMagnitude> magnitude = {});

  bool is_on() const override { return !use_->off; }
  at::Tensor forward(const at::Tensor& x) const override;
  at::Tensor applied(const at::Tensor& y, const at::Tensor& x) const override;
  at::Tensor forward_grouped(const at::Tensor& x_TGI) const override;
  at::Tensor delta() const override;
  /// forward() of rows that are 1 at ids [...] and 0 elsewhere, wide: what is added to an
  /// embedding, which is this matrix transposed.
  at::Tensor look_up(const at::Tensor& ids) const;

 private:
  at::Tensor dropped(const at::Tensor& x) const;
  at::Tensor row_norms() const;

  std::string name_;
  Weight a_rI_, b_Or_;
  double scale_;
  std::shared_ptr<const LoraUse> use_;
  std::optional<LoraMagnitude> magnitude_;
  mutable at::Tensor base_squares_O_;  // of W's rows, which are frozen; made when first needed
};

}  // namespace braid
