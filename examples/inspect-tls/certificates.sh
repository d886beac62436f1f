#!/bin/sh
# Makes an authority in this folder, to try the example out. For more than that: viaduct ca init, which keeps it among the gateway's state,
# and says how clients are told to trust it.
set -eu
cd "$(dirname "$0")"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=Example authority" \
  -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem 2>/dev/null
echo "made: ca.pem, which clients are to trust, and ca.key, which is nobody else's"
