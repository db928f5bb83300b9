#!/usr/bin/env bash
# Made from verl-cpu.txt by envs/generate.py; not to be edited. For the smoke scale, on CPUs.
set -eu
# vLLM's build for CPUs does not start beside these.
python -m pip uninstall --yes torchvision torchaudio torchcodec
# This project, from here.
python -m pip install --no-deps --no-build-isolation --editable .
