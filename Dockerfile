# An image that never changes: --build-arg BASE=python:3.13-slim-bookworm@sha256:… with the digest that your registry tells.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# Tools to build with, beside the environment that is copied below, which has no pip.
RUN python3 -m venv /opt/build \
    && python3 -m venv --without-pip /opt/storewatch \
    && /opt/build/bin/pip install --no-cache-dir 'hatchling>=1.27'
ENV PIP_PYTHON=/opt/storewatch/bin/python3 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# With `cluster`, reports are computed by a Dask cluster, whose scheduler and workers this image can be too (entrypoint
# `dask`). With `parquet`, reports can be had as Parquet: pyarrow is as large as all the rest. With `xlsx`, groups as spreadsheets.
ARG EXTRAS="objectstore"
COPY pyproject.toml constraints.txt ./
# What we depend on, without our own code: a change of that leaves this layer as it is. What is then removed, Litestar
# asks for but only imports to make up examples, to test, and for its own command line.
RUN python3 -c "import os, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = (p['optional-dependencies'][extra] for extra in os.environ['EXTRAS'].split()); \
print(*p['dependencies'], *sum(extras, []), sep='\n')" > requirements.txt \
    && /opt/build/bin/pip install --constraint constraints.txt --requirement requirements.txt \
    && /opt/build/bin/pip uninstall --yes Faker polyfactory httpx httpcore certifi rich-click litestar-htmx
COPY . .
RUN PIP_PYTHON='' /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip install --no-deps --no-index --root /code /wheels/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="storewatch" \
      org.opencontainers.image.description="How long each store was up and down within its business hours, over the last hour, day and week" \
      org.opencontainers.image.licenses="MIT"
# Numbers, so that an orchestrator can see that it is not root.
RUN groupadd --gid 10001 storewatch \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/storewatch --no-create-home storewatch \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/storewatch
COPY --from=build /opt/storewatch /opt/storewatch
COPY --from=build /code/ /
ENV PATH=/opt/storewatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STOREWATCH_HOST=0.0.0.0 \
    STOREWATCH_PORT=8000 \
    STOREWATCH_HOME=/var/lib/storewatch
USER 10001:10001
WORKDIR /var/lib/storewatch
VOLUME /var/lib/storewatch
EXPOSE 8000
# `http.client`, not `urllib`: that would ask the proxy of the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import os; from http.client import HTTPConnection as H; c = H('127.0.0.1', int(os.environ['STOREWATCH_PORT']), timeout=4); c.request('GET', '/health/live'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["storewatch"]
# The first start makes an API key and shows it; `keys create NAME` as the command makes others.
CMD ["serve"]
