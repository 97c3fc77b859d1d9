#pragma once
// Files that are whole or absent, read-only maps of files, and digests. Everything here throws
// Error with the path and the system's reason when a call fails.

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace braid {

/// The contents of a file.
std::string read_file(const std::filesystem::path& path);

/// Waits until a file's contents, or a folder's entries, are on the disk.
void fsync_path(const std::filesystem::path& path);

/// What an AtomicFile is called, behind its own name, until it is whole.
inline constexpr const char* kTemporarySuffix = ".braid.tmp";

/// A file that appears whole or not at all: it grows as `path` + kTemporarySuffix and commit()
/// renames it. Without commit() the temporary is removed and an earlier file of that name stays as
/// it was. Links are followed and stay. Devices and FIFOs are written through, once something reads
/// them; what else is no regular file is refused (core/output_place.h).
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t size);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }

  /// Leaves a hole: `size` zero bytes that take no room where the file system can do that.
  void skip(std::size_t size);

  /// Makes the file this long, the new bytes a hole; write_at() then fills it in any order. Not for
  /// what is written through.
  void resize(std::size_t size);
  void write_at(std::size_t position, const void* data, std::size_t size);

  /// Forces the contents to the disk, renames the temporary, forces the folder to the disk.
  void commit();

 private:
  std::filesystem::path path_, temporary_;  // no temporary: written through
  int descriptor_;
};

/// One AtomicFile with these contents.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// A file that is read at any place, by any thread. What is no regular file is refused, without
/// waiting for a FIFO's other end. The file stays readable when its name is gone.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Bytes when it was opened.
  std::size_t size() const { return size_; }

  /// Throws Error where the file ends before position + size: then it was cut short meanwhile, as
  /// long as that lies within size().
  void read_at(std::size_t position, void* data, std::size_t size) const;

 private:
  friend class MappedFile;
  std::filesystem::path path_;
  int descriptor_;
  std::size_t size_ = 0;
};

/// A file mapped into memory, read-only. Pages are read when touched; where one cannot be read any
/// more, the process gets SIGBUS: report_lost_pages() makes that a sentence. Refuses what InputFile
/// refuses.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::byte* data() const { return data_; }  // nullptr for an empty file
  std::size_t size() const { return size_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// From now on a page of a MappedFile that cannot be read, because the file was cut short or its
/// disk fails, ends the process with status 1 and a line on standard error that names the file.
/// Other bus errors stay what they are. For main.
void report_lost_pages();

/// XXH3-128 as 32 hexadecimal digits, as `xxhsum -H2` prints it.
std::string xxh3_128(std::string_view bytes);
/// `between` is called at least once a megabyte, for example to stop when a signal asks for it.
std::string xxh3_128_of_file(const std::filesystem::path& path,
                             const std::function<void()>& between = {});

}  // namespace braid
