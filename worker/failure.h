// What an exception that ends a piece of work says of the machine that it happened on.
#pragma once

#include <exception>

#include "comm/error.h"
#include "worker/device.h"

namespace svfleet {

// By class of `failure`:
//   Error                                           as it is
//   libtorch's, of a GPU (ECC, bus, driver, Xid)    kExitRequeue, of_node(), naming the GPU
//   libtorch's or C++'s, out of memory              kExitUser when this process alone wants more
//   than
//                                                   there is, else kExitRequeue, of_node()
//   no thread can be started                        kExitRequeue, of_node()
//   all others                                      kExitInternal
Failure failure_of(const std::exception_ptr& failure, const Device& device);

}  // namespace svfleet
