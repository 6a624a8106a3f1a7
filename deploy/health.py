#!/usr/local/bin/python -IS
"""Exit 0 if the proxy in this container answers 200: `nearhit-health [PATH [PORT]]`, else 1."""

import http.client
import sys

path, port = (*sys.argv[1:], *("/health", "8080")[len(sys.argv) - 1 :])
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=2)
try:
    connection.request("GET", path)
    answer = connection.getresponse()
    fault = None if answer.status == 200 else f"{answer.status} {answer.read(500)!r}"
except OSError as error:
    fault = str(error)
if fault is not None:
    sys.exit(f"{path}: {fault}")
