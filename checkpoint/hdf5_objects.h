#pragma once
// The HDF5 types, spaces and attributes that hdf5.cpp puts together. The caller holds the lock.
#include <optional>
#include <string>
#include <utility>

#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>
#include <hdf5.h>

namespace braid {

/// Closes an HDF5 identifier at the end of its scope, without forgetting an error that led there.
class Hdf5Handle {
 public:
  Hdf5Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Hdf5Handle() {
    if (id_ < 0) {
      return;
    }
    const hid_t errors = H5Eget_num(H5E_DEFAULT) > 0 ? H5Eget_current_stack() : H5I_INVALID_HID;
    close_(id_);
    if (errors >= 0) {
      H5Eset_current_stack(errors);
    }
  }
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

/// How elements of a dtype are stored: F16 and BF16 as floats of 16 bits, F8_* and BOOL as unsigned
/// bytes.
Hdf5Handle hdf5_type(at::ScalarType dtype);

/// A scalar space for an empty shape.
Hdf5Handle hdf5_space(at::IntArrayRef shape);

/// Creation properties without times of access and change: equal contents are equal bytes.
Hdf5Handle without_times(hid_t properties_class);

/// NaN as fill value of floats.
Hdf5Handle dataset_properties(at::ScalarType dtype, hid_t type);

/// Negative on failure, as HDF5's own functions.
herr_t write_attribute(hid_t object, const char* name, hid_t type, hid_t space, const void* value);
herr_t write_string_attribute(hid_t object, const char* name, const std::string& value);

/// Nothing on failure.
std::optional<std::string> read_string_attribute(hid_t attribute);

}  // namespace braid
