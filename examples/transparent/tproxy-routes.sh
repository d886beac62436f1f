#!/bin/sh
# Delivers what tproxy.nft has marked with 1 to this machine, whatever its destination. Run it once after each boot, as root.
set -eu
for family in -4 -6; do
	ip $family rule show fwmark 1 lookup 100 | grep -q . || ip $family rule add fwmark 1 lookup 100
	ip $family route replace local default dev lo table 100
done
