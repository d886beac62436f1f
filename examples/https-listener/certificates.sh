#!/bin/sh
# Makes what this example needs, in this folder, to try it out: an authority for servers, two certificates of the gateway, an authority for
# staff and the certificate of one of them. Real ones come from your own authority; the key of none of these belongs on another machine.
set -eu
cd "$(dirname "$0")"
umask 077

authority() { # NAME SUBJECT
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
    -subj "/CN=$2" -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$1.key" -out "$1.crt" 2>/dev/null
}

certificate() { # NAME AUTHORITY SUBJECT USAGE NAMES
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  printf 'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$4" "$5" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 90 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

authority servers-ca "Example servers"
authority staff-ca "Example staff"
certificate gate servers-ca "gate.corp.example" serverAuth "DNS:gate.corp.example,DNS:localhost,IP:127.0.0.1"
certificate gate-branch servers-ca "gate.branch.example" serverAuth "DNS:gate.branch.example"
certificate anna staff-ca "Anna" clientAuth "email:anna@ops.corp.example"
echo "made: gate.crt gate-branch.crt staff-ca.crt anna.crt; clients trust servers-ca.crt"
