// Local letter: L learned routers of the model.
#include "train/look_ahead.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/file.h"
#include "core/profile.h"
#include "run/tokens_of.h"

namespace braid {
namespace {

// The indices of the learned routers among a model's layers.
std::vector<std::size_t> learned_layers(const Transformer& model) {
  const auto biases = model.routing_biases();
  std::vector<std::size_t> layers;
  for (std::size_t layer = 0; layer < biases.size(); ++layer) {
    if (biases[layer].defined()) {
      layers.push_back(layer);
    }
  }
  return layers;
}

// [B, S, ...] of whole sequences, out of own shares of them.
at::Tensor whole_sequences(const at::Tensor& own, const ProcessGrid& grid) {
  if (grid.place.context_size == 1) {
    return own;
  }
  const auto dense = own.contiguous();
  const auto* numbers = dense.const_data_ptr<int16_t>();
  const auto all =
      grid.context->all_gather(std::vector<int64_t>(numbers, numbers + dense.numel()), "experts");
  std::vector<at::Tensor> shares;
  for (const auto& share : all) {
    shares.push_back(at::tensor(share, at::kLong).to(at::kShort).view(own.sizes()));
  }
  return at::cat(shares, /*dim=*/1);
}

std::string piece_name(std::size_t step) {
  return text("look_ahead/", step, "/experts");
}

// Rows one after another, so that it does not depend on micro-batches.
void add_rows(const Batch& batch, std::string& digest) {
  const int64_t B = batch.ids_BS.size(0), S = batch.ids_BS.size(1);
  const auto* ids = reinterpret_cast<const char*>(batch.ids_BS.const_data_ptr<int64_t>());
  const auto row = static_cast<std::size_t>(S) * sizeof(int64_t);
  for (int64_t b = 0; b < B; ++b) {
    digest = xxh3_128(digest + xxh3_128({ids + static_cast<std::size_t>(b) * row, row}));
  }
}

struct StoredStep {
  int64_t sequences = 0, seq_len = 0;
  std::string digest;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("sequences", &StoredStep::sequences, "of the step", at_least(1));
    v("seq_len", &StoredStep::seq_len, "tokens in each", at_least(2));
    v("digest", &StoredStep::digest, "of their ids");
  }
};
struct StoredLookAhead {
  std::optional<int64_t> remaining = 0;
  std::vector<StoredStep> steps;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("remaining",
      &StoredLookAhead::remaining,
      "steps that anticipatory routing is still on for",
      absent_as("all"));
    v("steps", &StoredLookAhead::steps, "fetched ahead");
  }
};

}  // namespace

StepSamples next_samples(BackgroundLoader& loader,
                         const GridPlace& place,
                         int64_t micro_batch_size,
                         int64_t sequences,
                         int64_t seq_len) {
  const ProfileScope scope("loader", ProfileKind::kStep);
  StepSamples result{sequences, seq_len, loader.state(), {}, {}};
  const int64_t share = sequences / place.data_size;
  for (int64_t d = 0; d < place.data_size; ++d) {
    for (int64_t row = 0; row < share; row += micro_batch_size) {
      auto batch = loader.next({std::min(micro_batch_size, share - row), seq_len});
      add_rows(batch, result.digest);
      if (d == place.data) {
        result.batches.push_back(std::move(batch));
      }
    }
  }
  return result;
}

void LookAhead::enter(std::optional<int64_t> steps_more) {
  remaining = steps_more;
  for (auto& step : steps) {
    step.experts_BSLK.clear();
  }
}

bool LookAhead::finish_step() {
  return remaining && *remaining > 0 && --*remaining == 0;
}

at::Tensor chosen_experts(const Transformer& model,
                          const Batch& batch,
                          PassOptions options,
                          const ProcessGrid& grid) {
  const ProfileScope scope("anticipatory routing", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  options.keep_experts = true;
  options.balance_loss = options.indexer_loss = false;
  Observations observations;
  const auto tokens = tokens_of(batch);
  const auto hidden = model.forward(tokens, options, &observations);
  if (model.has_mtp()) {
    model.mtp_forward(tokens, hidden, options, &observations);
  }
  const int64_t B = batch.ids_BS.size(0);
  std::vector<at::Tensor> of_layers;
  for (const auto layer : learned_layers(model)) {
    const auto& experts_TK = observations.layers.at(layer).experts_TK;
    of_layers.push_back(experts_TK.to(at::kShort).view({B, -1, experts_TK.size(1)}));
  }
  const int64_t K = model.config().num_experts_per_tok;
  const auto whole = of_layers.empty()
                         ? at::empty({B, batch.ids_BS.size(1), 0, K}, at::kShort)
                         : whole_sequences(at::stack(of_layers, /*dim=*/2).cpu(), grid);
  return whole.contiguous();
}

std::shared_ptr<const GivenExperts> given_experts(const Transformer& model,
                                                  const at::Tensor& experts_BSLK) {
  auto given = std::make_shared<GivenExperts>(model.routing_biases().size());
  const auto own_BSLK = model.own_share(experts_BSLK);
  int64_t index = 0;
  for (const auto layer : learned_layers(model)) {
    const auto experts_BSK = own_BSLK.select(/*dim=*/2, index++);
    (*given)[layer] = experts_BSK.to(at::kLong).flatten(0, 1).contiguous().to(
        model.device(), /*non_blocking=*/true);
  }
  return given;
}

std::vector<TensorPiece> look_ahead_pieces(const LookAhead& ahead, const GridPlace& place) {
  std::vector<TensorPiece> pieces;
  for (std::size_t i = 0; i < ahead.steps.size() && place.context == 0; ++i) {
    const auto& step = ahead.steps[i];
    const auto experts_BSLK = at::cat(step.experts_BSLK);
    auto shape = experts_BSLK.sizes().vec();
    const int64_t first = place.data * shape[0];
    shape[0] = step.sequences;
    pieces.push_back({piece_name(i), experts_BSLK, shape, first});
  }
  return pieces;
}

std::string look_ahead_yaml(const LookAhead& ahead) {
  StoredLookAhead stored{ahead.remaining, {}};
  for (const auto& step : ahead.steps) {
    stored.steps.push_back({step.sequences, step.seq_len, step.digest});
  }
  return dump_config(stored);
}

bool restore_look_ahead(LookAhead& ahead,
                        const Checkpoint& checkpoint,
                        const std::filesystem::path& folder,
                        const std::string& yaml,
                        const RunConfig& config,
                        const Transformer& model,
                        const GridPlace& place,
                        BackgroundLoader& loader) {
  const auto stored = parse_config<StoredLookAhead>(yaml, folder.string() + ": look_ahead");
  const bool always = config.model.routing_mode == RoutingMode::kAnticipatory;
  ahead.remaining = always ? std::nullopt : std::optional(stored.remaining.value_or(0));
  ahead.steps.clear();
  const auto fetched = static_cast<int64_t>(stored.steps.size());
  if (!ahead.is_on() || fetched != config.model.routing_delay) {
    return fetched == 0;
  }
  const auto layers = static_cast<int64_t>(learned_layers(model).size());
  for (std::size_t i = 0; i < stored.steps.size(); ++i) {
    const auto& [sequences, seq_len, digest] = stored.steps[i];
    require(sequences % place.data_size == 0,
            folder.string(),
            ": the steps that are fetched ahead have ",
            sequences,
            " sequences, which ",
            place.data_size,
            " data-parallel ranks cannot share; continue on another number of ranks");
    auto step = next_samples(loader, place, config.train.micro_batch_size, sequences, seq_len);
    if (step.digest != digest) {
      loader.restore(ahead.steps.empty() ? step.before : ahead.steps.front().before);
      ahead.steps.clear();
      return false;
    }
    const int64_t share = sequences / place.data_size, K = config.model.num_experts_per_tok;
    const auto own_BSLK = at::empty({share, seq_len, layers, K}, at::kShort);
    require(
        read_piece(checkpoint,
                   {piece_name(i), own_BSLK, {sequences, seq_len, layers, K}, place.data * share}),
        folder.string(),
        ": holds no ",
        piece_name(i),
        " for ",
        sequences,
        " sequences of ",
        seq_len,
        " tokens; it is damaged");
    step.experts_BSLK = own_BSLK.split(config.train.micro_batch_size);
    ahead.steps.push_back(std::move(step));
  }
  return true;
}

}  // namespace braid
