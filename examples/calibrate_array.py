"""One array in several formats: choose a range, quantize, and measure the error."""

import numpy as np

import quantcal as qc

rng = np.random.default_rng(0)
x = rng.laplace(size=(64, 1000)).astype(np.float32)  # activations of some layer

print("format          scale      zero  range              codes          error")
for format in ("int8", "uint8", "int4", "float8_e4m3fn", "float4_e2m1fn"):
    params = qc.calibrate(x, "mse", format=format)
    codes = params.quantize(x)  # numpy's or ml_dtypes' own type, the shape of x
    restored = params.dequantize(codes)  # float32 again
    error = np.sqrt(np.mean((x - restored) ** 2))
    print(
        f"{format:<15} {params.scale:<10.3g} {params.zero_point:>4}  "
        f"[{params.low:6.2f}, {params.high:5.2f}]  {codes.dtype!s:<14} {error:.4f}"
    )

# A scale that is a power of two turns scaling into a shift.
shift = qc.calibrate(x, "mse", format="int8", power_of_two=True)
print(f"power of two: scale 2^{int(np.log2(shift.scale))}")
