# docker build -t hubbub .
# docker run -p 127.0.0.1:8000:8000 -v hubbub:/data hubbub
# See docs/deployment.md.

FROM node:24-slim AS page
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
# No install script of a dependency is needed, so none may run.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY web ./
RUN npm run build

FROM python:3.13-slim AS server
COPY --from=ghcr.io/astral-sh/uv:0.13.8 /uv /usr/local/bin/uv
ENV UV_PROJECT_ENVIRONMENT=/app \
    UV_PYTHON_DOWNLOADS=never \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    HUBBUB_BUILD_WEB=0
WORKDIR /src
# What it depends on changes less often than itself, and is a layer of its own.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --extra gunicorn --no-install-project
COPY hatch_build.py LICENSE README.md ./
COPY src src
COPY --from=page /src/src/hubbub/web src/hubbub/web
# `data` is empty: what a volume over /data begins with.
RUN uv sync --locked --no-dev --extra gunicorn --no-editable && mkdir data

FROM python:3.13-slim
COPY --from=server /app /app
COPY gunicorn.conf.py /app/
COPY --from=server --chown=10001:10001 --chmod=700 /src/data /data
# In a container it listens to all who can reach that; encryption and the outside are a proxy's, or of who publishes
# the port for this machine alone. Guests and registration stay off until they are switched on.
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    HUBBUB_HOME=/data \
    HUBBUB_HOST=0.0.0.0 \
    HUBBUB_BEHIND_PROXY=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"HUBBUB_PORT\", 8000)}/healthz', timeout=4)"]
ENTRYPOINT ["hubbub"]
CMD ["serve"]
