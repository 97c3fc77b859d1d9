#pragma once
#include <hdf5.h>

namespace braid {

/// Makes files created with this access property list survive a full disk. HDF5 1.10 does not: its
/// metadata cache cannot be closed after a failed write (measured: H5Fclose and exit() both fault).
/// This file driver stores the errno of the first failed write in `first_error`, lets HDF5 believe
/// that all is well so that it can close, and leaves it to the caller to look. `first_error` starts
/// as 0 and must outlive the file. Throws Error when HDF5 refuses the driver.
void use_remembering_driver(hid_t access_properties, int* first_error);

}  // namespace braid
