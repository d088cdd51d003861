"""Events as traces and metrics of OpenTelemetry. Needs the extra `otel`, which is the API alone: bring your own SDK."""

from mmsclient._extras import needed

with needed("otel", "traces and metrics of OpenTelemetry"):
    import opentelemetry.trace  # noqa: F401

from mmsclient.observe.otel.observer import OpenTelemetryObserver

__all__ = ["OpenTelemetryObserver"]
