"""What a GPU could do at best: dense matmul FLOP/s by device name, the denominator of MFU."""

import re

# NVIDIA's data sheets, dense (no sparsity), bfloat16 with float32 accumulation; float16 on V100 and T4, which
# have no bfloat16. Full-name patterns: a laptop, "Ti", "D" or MIG variant is another device, hence unknown.
PEAK_FLOPS = (
    (r"B200", 2250e12),
    (r"GH200( \d+GB)?", 989e12),
    (r"H[12]00 NVL", 835e12),
    (r"H200( SXM.*)?", 989e12),
    (r"H100 PCIe", 756e12),
    (r"H[18]00( SXM\S*)?( \d+GB)?( HBM3\S*)?", 989e12),
    (r"A[18]00[ -](SXM4|PCIE|PCIe)?[ -]?\d+GB( PCIe)?( Active)?", 312e12),
    (r"A30", 165e12),
    (r"A10", 125e12),
    (r"L40S", 362e12),
    (r"L40", 181e12),
    (r"L4", 121e12),
    (r"GeForce RTX 4090", 165e12),
    (r"GeForce RTX 3090", 71e12),
    (r"V100-PCIE-\d+GB", 112e12),
    (r"V100-SXM\d-\d+GB(-LS)?", 125e12),
    (r"T4", 65e12),
)


def peak_flops(device_name: str) -> float | None:
    """Dense half-precision FLOP/s of one GPU named as `torch.cuda.get_device_name` does; None if unknown."""
    name = re.sub(r"^(NVIDIA|Tesla)\s+", "", device_name.strip())
    for pattern, flops in PEAK_FLOPS:
        if re.fullmatch(pattern, name):
            return flops
    return None
