#pragma once
// Tensors and attributes in HDF5 files that any HDF5 tool can read. Version 1.10 file format.
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>
#include <hdf5.h>

#include "core/file.h"
#include "core/named_tensor.h"

namespace braid {

class Hdf5Handle;

using Hdf5Attributes = std::map<std::string, std::variant<int64_t, double, std::string>>;

/// An open HDF5 file. Debian's HDF5 is not thread-safe: a file holds a process-wide lock while it
/// is open, so other threads wait (one thread may have several files open).
///
/// Each tensor is a dataset that carries the attributes `dtype` (dtype_name()), `global_shape` and
/// `offset`. F16 and BF16 are HDF5 floats of 16 bits, which h5py reads as float16 and, widened
/// exactly, float32; F8_E4M3, F8_E8M0 and BOOL are unsigned bytes. Floats have NaN as their fill
/// value.
///
/// All members throw Error naming the file, the object and HDF5's or the system's reason.
class Hdf5File {
 public:
  static Hdf5File create(const std::filesystem::path& path);
  static Hdf5File open(const std::filesystem::path& path);  // read-only
  ~Hdf5File();                                              // closes; errors are lost, see close()
  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&&) = delete;

  /// `name` is a path in the file without a leading "/"; its groups are made as needed.
  /// Tensors of any device and strides.
  void write_tensor(const std::string& name, const at::Tensor& tensor);

  /// A piece, under dataset_name(), with its place in its tensor as attributes. With a
  /// `deflate_level` (1-9) it is compressed, in chunks, and view_tensor() refuses it.
  void write_piece(const TensorPiece& piece, int deflate_level = 0);

  /// A dataset like `tensor` whose bytes are those of `name` in `source`, a file named relatively
  /// to this one (an HDF5 virtual dataset). HDF5 has none for scalars and empty tensors: those are
  /// written.
  void write_virtual(const std::string& name, const at::Tensor& tensor, const std::string& source);
  /// The same of a tensor whose pieces, of which values are not used, lie in several files.
  struct VirtualPart {
    TensorPiece piece;
    std::string source;
  };
  void write_virtual(const std::vector<VirtualPart>& parts);

  at::Tensor read_tensor(const std::string& name) const;

  /// The tensor as a view of this file's bytes in `mapped`, which it keeps open; it must not be
  /// written to. In memory of its own where those bytes are not aligned to its elements. Throws
  /// Error when they are not in one piece.
  at::Tensor view_tensor(const std::string& name,
                         const std::shared_ptr<const MappedFile>& mapped) const;

  /// Dtype and shape, on LibTorch's meta device.
  at::Tensor describe_tensor(const std::string& name) const;
  /// The same as a piece under its tensor's name.
  TensorPiece describe_piece(const std::string& dataset_name) const;

  /// The names of all datasets, sorted within each group.
  std::vector<std::string> tensor_names() const;

  /// Attributes of one group; strings are UTF-8 of variable length, without NUL bytes.
  void write_attributes(const std::string& group, const Hdf5Attributes& attributes);
  Hdf5Attributes read_attributes(const std::string& group) const;

  /// Writes everything that HDF5 still holds and closes. A full disk often shows only here.
  void close();

 private:
  Hdf5File(const std::filesystem::path& path, bool create);
  void create_groups_above(const std::string& name);
  Hdf5Handle create_group(const std::string& name);
  Hdf5Handle open_dataset(const std::string& name) const;
  at::Tensor described(hid_t dataset, const std::string& name) const;
  Hdf5Handle create_dataset(const std::string& name,
                            at::ScalarType dtype,
                            at::IntArrayRef sizes,
                            const TensorPiece& piece,
                            hid_t properties);
  std::vector<int64_t> read_numbers(hid_t dataset, const char* attribute) const;
  void require_written() const;
  template <class T>
  T checked(T result, const char* action, const std::string& object = "") const;

  std::filesystem::path path_;
  std::unique_lock<std::recursive_mutex> lock_;
  std::unique_ptr<int> write_error_ =
      std::make_unique<int>(0);  // errno; HDF5 itself sees no failure
  hid_t id_ = H5I_INVALID_HID;
};

/// The dataset of a piece in a shard: its tensor's name, with "@" and the offset behind it unless
/// it is the whole tensor.
std::string dataset_name(const TensorPiece& piece);

}  // namespace braid
