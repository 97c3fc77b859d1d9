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

/// ".gz" of "a.TXT.GZ".
std::string lower_extension(const std::filesystem::path& path);

/// By the name alone: *.gz, *.zst in any case, or none.
Compression compression_of(const std::filesystem::path& path);

/// By the first bytes, of which four are enough: what a gzip member or a Zstandard frame begins
/// with.
Compression compression_in(std::string_view first_bytes);

/// "bytes", which must outlive the stream, in pieces.
std::unique_ptr<ByteStream> stream_of(std::string_view bytes);

/// The bytes of a file. Throws Error with the path for what is no regular file, when reading fails,
/// and when the file gets shorter meanwhile.
std::unique_ptr<ByteStream> stream_of_file(const std::filesystem::path& path);

/// What `bytes` hold once decompressed: gzip of one or more members, Zstandard of one or more
/// frames. next() throws Error with `name` and the byte offset in `bytes` where they are corrupt,
/// cut short, or followed by something else.
std::unique_ptr<ByteStream> decompressed(std::unique_ptr<ByteStream> bytes,
                                         Compression compression,
                                         const std::string& name);

}  // namespace braid
