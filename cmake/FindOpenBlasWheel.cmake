# Finds OpenBLAS inside an installed PyPI `scipy-openblas64` package. Nothing is linked with it: it
# would start a thread a core in every process (svd/openblas.h loads it where one decomposes), and so
# nothing but where the program looks for it is set, the link `openblas` beside it.
# Include after FindTorchDirect.cmake, whose link_beside it uses.
if(NOT OPENBLAS_DIR)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
      "import importlib.util as u,os;s=u.find_spec('scipy_openblas64');print(os.path.dirname(s.origin) if s else '')"
    OUTPUT_VARIABLE OPENBLAS_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT EXISTS "${OPENBLAS_DIR}/lib/libscipy_openblas64_.so")
  message(FATAL_ERROR "OpenBLAS not found: run scripts/setup, or set -DOPENBLAS_DIR=<site-packages>/scipy_openblas64")
endif()
link_beside(openblas "${OPENBLAS_DIR}/lib")
# Of the program, and of tests in a folder below its own.
list(APPEND CMAKE_BUILD_RPATH "$ORIGIN/openblas" "$ORIGIN/../openblas")
