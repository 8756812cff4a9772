#!/bin/sh
# As in the official image: options alone are options of nats-server.
set -e
[ "${1#-}" != "$1" ] && set -- nats-server "$@"
exec "$@"
