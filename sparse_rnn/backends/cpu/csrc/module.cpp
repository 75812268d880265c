// The shared library as a Python module: loading it registers the operators as torch.ops.sparse_rnn.
#include <Python.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

PyMODINIT_FUNC JOIN(PyInit_, TORCH_EXTENSION_NAME)() {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, TEXT(TORCH_EXTENSION_NAME), nullptr, -1, nullptr};
  return PyModule_Create(&definition);
}
