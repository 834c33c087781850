// Makes MKL, with which LibTorch multiplies matrices on CPUs, choose its kernels by the
// instructions that the processor has, whoever made it. By default, its best kernels are only for
// Intel's processors; on a fifth-generation AMD EPYC, float32 products then run at less than half
// the speed (docs/log.md). MKL_ENABLE_INSTRUCTIONS can still restrict MKL to older instructions.
//
// MKL calls mkl_serv_intel_cpu_true(), which libtorch_cpu.so exports. A definition in the program
// takes precedence, and so does one in libdalle.so if the program lists it before LibTorch. MKL
// still checks which instructions the processor has.

extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true() {
  return 1;
}
