#!/bin/sh
# Sets up what is needed, the first time, and starts Hubbub for production: `./start.sh`. What is given to it is given to
# gunicorn; settings come from the environment and .env.
set -eu
cd "$(dirname "$0")"

if ! tools/uv run --no-project --python '>=3.11' python hatch_build.py; then
  echo "Going on without the web page." >&2
  export HUBBUB_BUILD_WEB=0
fi
tools/uv sync --locked --no-dev --inexact --extra gunicorn
exec .venv/bin/gunicorn -c gunicorn.conf.py "$@"
