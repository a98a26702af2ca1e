ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/storewatch
COPY . .
RUN /opt/storewatch/bin/pip install --no-cache-dir --constraint constraints.txt '.[objectstore]' \
    && /opt/storewatch/bin/pip uninstall --yes pip

FROM ${BASE}
LABEL org.opencontainers.image.title="storewatch" \
      org.opencontainers.image.description="How long each store was up and down within its business hours, over the last hour, day and week" \
      org.opencontainers.image.licenses="MIT"
# Numbers, so that an orchestrator can see that it is not root.
RUN groupadd --gid 10001 storewatch \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/storewatch --no-create-home storewatch \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/storewatch
COPY --from=build /opt/storewatch /opt/storewatch
ENV PATH=/opt/storewatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STOREWATCH_HOME=/var/lib/storewatch
USER 10001:10001
WORKDIR /var/lib/storewatch
VOLUME /var/lib/storewatch
EXPOSE 8000
# `http.client`, not `urllib`: that would ask the proxy of the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "from http.client import HTTPConnection as H; c = H('127.0.0.1', 8000, timeout=4); c.request('GET', '/health/live'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["storewatch"]
# Does not start until there is an API key; `keys create NAME` as the command makes one.
CMD ["serve", "--host", "0.0.0.0"]
