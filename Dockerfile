# Two stages: a wheel and its locked dependencies are installed into a virtual
# environment, and only that environment is taken over. No key is inside: mount the
# keyrings and the configuration. `make docker-steps` runs the same steps without Docker.
#
# Renew tag and digest together; renew deploy/requirements.lock with `make lock`.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY deploy/requirements.lock deploy/build.lock deploy/install ./deploy/
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
RUN sh deploy/install python3 /opt/gateway

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

LABEL org.opencontainers.image.title="alipayhk-gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /etc/gateway
EXPOSE 8080 9090
# GATEWAY_ADMIN is the admin listener as seen from inside the container. Alive is also
# who asks for a token (401): so none has to stand here.
ENV GATEWAY_ADMIN=http://127.0.0.1:9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python3", "-c", "import http.client as h, os, sys; c = h.HTTPConnection(os.environ['GATEWAY_ADMIN'].removeprefix('http://'), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status not in (200, 401))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["serve", "-c", "/etc/gateway/config.yaml"]
