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
# Libraries are linked through links beside the program, where it also looks for them when it runs
# (RUNPATH $ORIGIN/lib): links that are made anew make it start in another place.
function(link_beside name to)
  cmake_path(IS_PREFIX CMAKE_SOURCE_DIR "${to}" NORMALIZE _to_moves)
  cmake_path(IS_PREFIX CMAKE_SOURCE_DIR "${CMAKE_BINARY_DIR}" NORMALIZE _build_moves)
  if(_to_moves AND _build_moves)
    file(RELATIVE_PATH to ${CMAKE_BINARY_DIR} ${to})
  endif()
  file(REMOVE ${CMAKE_BINARY_DIR}/${name})
  file(CREATE_LINK ${to} ${CMAKE_BINARY_DIR}/${name} SYMBOLIC)
endfunction()
link_beside(lib "${TORCH_DIR}/lib")
set(_torch_lib "${CMAKE_BINARY_DIR}/lib")
set(_nvidia "${CMAKE_BINARY_DIR}/nvidia")
get_filename_component(_site_packages "${TORCH_DIR}" DIRECTORY)
link_beside(nvidia "${_site_packages}/nvidia")

add_library(torchx_cpu INTERFACE)
add_library(torchx::cpu ALIAS torchx_cpu)
# -idirafter, not -isystem: torch ships fmt 12 in its include root, which would shadow Debian's
# fmt 9 that spdlog 1.10 is built with.
target_compile_options(torchx_cpu INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter \"${TORCH_DIR}/include\" -idirafter \"${TORCH_DIR}/include/torch/csrc/api/include\">")
target_link_libraries(torchx_cpu INTERFACE
  ${_torch_lib}/libtorch_cpu.so ${_torch_lib}/libc10.so Threads::Threads)
# libtorch_cpu needs libcupti and libcudart at run time only; its RUNPATH finds them.
target_link_options(torchx_cpu INTERFACE LINKER:--allow-shlib-undefined)
file(STRINGS ${TORCH_DIR}/version.py _torch_version REGEX "^__version__")
string(REGEX MATCH "[0-9][^'\"]*" _torch_version "${_torch_version}")
target_compile_definitions(torchx_cpu INTERFACE TORCH_VERSION_TEXT="${_torch_version}")

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
    ${_torch_lib}/libtorch_cuda.so ${_torch_lib}/libc10_cuda.so torchx_cpu
    NCCL::nccl CUDA::cudart)
endif()
