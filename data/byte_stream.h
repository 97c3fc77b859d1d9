#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace braid {

/// Bytes that come in pieces, so that no file is ever in memory as a whole.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  /// The next piece, valid until the next call; empty at the end.
  virtual std::string_view next() = 0;
};

enum class Compression { kNone, kGzip, kZstd };

/// By the name alone: *.gz, *.zst, or none.
Compression compression_of(const std::filesystem::path& path);

/// Decompresses `bytes`, which must outlive the stream: gzip of one or more members, Zstandard of
/// one or more frames. next() throws Error with `name` and the byte offset in `bytes` where they
/// are corrupt, cut short, or followed by something else.
std::unique_ptr<ByteStream> decompressed(std::string_view bytes,
                                         Compression compression,
                                         const std::string& name);

}  // namespace braid
