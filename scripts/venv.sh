#!/bin/sh
# Make a Python virtual environment from a requirements file, once.
#   scripts/venv.sh FOLDER REQUIREMENTS
# FOLDER keeps a copy of the file; the environment is made again when it differs.
set -eu
folder=$1
requirements=$2

cmp -s "$requirements" "$folder/requirements.txt" && exit 0
echo "venv: making $folder from $requirements"
python3 -m venv --clear "$folder"
"$folder/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements"
cp "$requirements" "$folder/requirements.txt"
