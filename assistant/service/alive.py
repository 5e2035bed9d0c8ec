"""``python -m assistant.service.alive``: the container's health check. Exits with 0 if the service is alive.

It runs every 30 s, so it imports nothing of the service: the settings alone would take 0.35 s of CPU each
time. A test compares its two variable names with those of ServiceSettings.
"""

from __future__ import annotations

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

PORT_VARIABLE = "ASSISTANT_SERVICE_PORT"
TLS_VARIABLE = "ASSISTANT_SERVICE_TLS"
_HOST = "127.0.0.1"
_TIMEOUT_S = 3.0


def main() -> int:
    port = int(os.environ[PORT_VARIABLE])
    if os.environ.get(TLS_VARIABLE, "off") == "off":
        connection = HTTPConnection(_HOST, port, timeout=_TIMEOUT_S)
    else:
        # The service made its certificate at start, for a balancer that does not verify it.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(_HOST, port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.exit(f"The service does not answer on port {port}: {error!r}")
    finally:
        connection.close()
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
