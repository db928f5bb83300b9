#!/usr/bin/env bash
# Made from verl.txt by envs/generate.py; not to be edited. For the paper scale, on GPUs.
set -eu
# Built against the locked torch with the locked nvcc; or the wheel whose path or address FLASH_ATTN is.
export CUDA_HOME="${CUDA_HOME:-$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13}"
python -m pip install --no-deps --no-build-isolation "${FLASH_ATTN:-flash-attn==2.8.3}"
# This project, from here.
python -m pip install --no-deps --no-build-isolation --editable .
