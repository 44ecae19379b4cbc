# Finds libtorch inside an installed PyPI `torch` package and defines torchx::cpu and, with
# SVFLEET_CUDA, torchx::cuda and NCCL::nccl. torch's own find_package insists on a full CUDA
# toolkit even for CPU-only use, so it is not used.
if(NOT TORCH_DIR)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
      "import importlib.util as u,os;s=u.find_spec('torch');print(os.path.dirname(s.origin) if s else '')"
    OUTPUT_VARIABLE TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT EXISTS "${TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "libtorch not found: run scripts/setup, or set -DTORCH_DIR=<site-packages>/torch")
endif()
find_package(Threads REQUIRED)
set(_nvidia "${TORCH_DIR}/../nvidia")

add_library(torchx_cpu INTERFACE)
add_library(torchx::cpu ALIAS torchx_cpu)
# -idirafter, not -isystem: torch ships fmt 12 in its include root, which would shadow Debian's
# fmt 9 that spdlog 1.10 is built with.
target_compile_options(torchx_cpu INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${TORCH_DIR}/include -idirafter ${TORCH_DIR}/include/torch/csrc/api/include>")
target_link_libraries(torchx_cpu INTERFACE
  ${TORCH_DIR}/lib/libtorch_cpu.so ${TORCH_DIR}/lib/libc10.so Threads::Threads)
# libtorch_cpu needs libcupti and libcudart at run time only; its RUNPATH finds them.
target_link_options(torchx_cpu INTERFACE LINKER:--allow-shlib-undefined)

if(SVFLEET_CUDA)
  # CMake 3.25 has no C++20 entry for nvcc.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  find_path(NCCL_INCLUDE_DIR nccl.h
    HINTS ${_nvidia}/nccl/include ${CUDAToolkit_INCLUDE_DIRS} NO_DEFAULT_PATH REQUIRED)
  find_library(NCCL_LIBRARY NAMES libnccl.so.2 nccl
    HINTS ${_nvidia}/nccl/lib ${CUDAToolkit_LIBRARY_DIR} NO_DEFAULT_PATH REQUIRED)
  add_library(NCCL::nccl UNKNOWN IMPORTED)
  set_target_properties(NCCL::nccl PROPERTIES
    IMPORTED_LOCATION "${NCCL_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
  add_library(torchx_cuda INTERFACE)
  add_library(torchx::cuda ALIAS torchx_cuda)
  # libtorch_cuda registers its kernels in static initialisers; nothing refers to it by symbol.
  target_link_options(torchx_cuda INTERFACE LINKER:--no-as-needed)
  target_link_libraries(torchx_cuda INTERFACE
    ${TORCH_DIR}/lib/libtorch_cuda.so ${TORCH_DIR}/lib/libc10_cuda.so torchx_cpu
    NCCL::nccl CUDA::cudart)
endif()
