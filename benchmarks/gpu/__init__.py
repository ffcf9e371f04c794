"""FP8 training on a GPU, measured: `bash scripts/bench_gpu.sh` runs it, its results lie beside these files."""
