#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/jsonl.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

struct Settings {
  explicit Settings(char byte)
      : compression(static_cast<Compression>((byte & 3) % 3)),
        longest_line(byte & 4 ? 64 : 1 << 16),
        piece(1 + (static_cast<unsigned char>(byte) >> 3)) {}

  Compression compression;
  std::size_t longest_line, piece;
};

/// Another stream's bytes in pieces of at most `size`.
class Chopped : public ByteStream {
 public:
  Chopped(ByteStream& stream, std::size_t size) : stream_(stream), size_(size) {}

  std::string_view next() override {
    if (rest_.empty()) {
      rest_ = stream_.next();
    }
    const auto piece = rest_.substr(0, size_);
    rest_.remove_prefix(piece.size());
    return piece;
  }

 private:
  ByteStream& stream_;
  std::size_t size_;
  std::string_view rest_;
};

/// The texts, or nothing when the reader refuses the bytes.
std::optional<std::vector<std::string>> texts_of(std::string_view bytes,
                                                 const Settings& settings,
                                                 std::size_t piece) {
  std::vector<std::string> texts;
  try {
    const auto stream = decompressed(stream_of(bytes), settings.compression, "input");
    Chopped chopped(*stream, piece);
    JsonlReader reader(
        chopped, "input", {.text_key = "text", .longest_line = settings.longest_line});
    while (const auto text = reader.next()) {
      texts.emplace_back(*text);
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  return texts;
}

}  // namespace

bool read_jsonl(std::string_view bytes) {
  if (bytes.empty()) {
    return false;
  }
  const Settings settings(bytes[0]);
  bytes.remove_prefix(1);
  const auto texts = texts_of(bytes, settings, settings.piece);
  if (texts != texts_of(bytes, settings, std::string_view::npos)) {
    throw std::logic_error("the texts depend on the sizes of the pieces");
  }
  return texts.has_value();
}

}  // namespace braid::testing
