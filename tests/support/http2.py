"""TLS that speaks HTTP/2."""

from __future__ import annotations

import ssl

import trustme


def http2_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority, server, client = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    server.set_alpn_protocols(["h2"])
    return server, client
