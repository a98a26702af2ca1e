"""storewatch: how long stores were up and down within their business hours."""

import os

# Sorting by AVX-512 takes NumPy five times as long as by AVX2 on AMD's Zen 4 (family 25), which
# stores the compressed form slowly; numpy/x86-simd-sort#6. NumPy reads this once, as it is loaded.
_NPY_CHOICES = ("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES")
_ZEN_4 = ("AuthenticAMD", "\ncpu family\t: 25\n", " avx512f ")


def _spare_zen_4_slow_sorting() -> None:
    try:
        with open("/proc/cpuinfo") as processors:
            first = processors.read(4096)
    except OSError:  # no Linux
        return
    if all(mark in first for mark in _ZEN_4) and not any(
        name in os.environ for name in _NPY_CHOICES
    ):
        os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V4"


_spare_zen_4_slow_sorting()
