#!/usr/bin/env bash
# Made from local.txt by envs/generate.py; not to be edited. For the local and tiny scales.
set -eu
# This project, from here.
python -m pip install --no-deps --no-build-isolation --editable .
