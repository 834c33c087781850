// Makes MKL, with which LibTorch multiplies matrices on CPUs, use its AVX2 and AVX-512 kernels on
// every processor that has the instructions. By default, only Intel's processors get them: on an
// AMD EPYC of the fifth generation, float32 products then run at less than half of the speed
// (docs/log.md). Intel's documentation of MKL_ENABLE_INSTRUCTIONS, which can still select older
// instructions, describes the choice.
//
// MKL asks mkl_serv_intel_cpu_true(), which libtorch_cpu.so exports, so a definition in the program
// or in libdalle.so takes precedence. MKL still checks which instructions the processor has.

extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true() {
  return 1;
}
