#!/bin/sh
# Users of RabbitMQ with the least rights that Holdfast works with. Run it once, where rabbitmqctl may be run:
#
#     HOLDFAST_NAMESPACE=holdfast WORKER_PASSWORD=... CLIENT_PASSWORD=... FOREIGN_PASSWORD=... ./rabbitmq-users.sh
#
# Each user is for one namespace: the names are anchored at both ends, and a dot is a dot.
set -eu

namespace=${HOLDFAST_NAMESPACE:-holdfast}
vhost=${VHOST:-/}
ctl=${RABBITMQCTL:-rabbitmqctl}
own="^${namespace}[.](commands([.][0-9]+)?|ingress|dead)\$"
nothing='^$'

# user, password, configure, write, read. The password is handed over on a pipe: arguments are for all to see in ps.
user() {
    printf '%s\n' "$2" | "$ctl" -q add_user "$1" >/dev/null 2>&1 ||
        printf '%s\n' "$2" | "$ctl" -q change_password "$1" >/dev/null
    "$ctl" -q set_permissions -p "$vhost" "$1" "$3" "$4" "$5"
}

# Workers declare the queues, take from them and publish to them.
user "${namespace}-worker" "$WORKER_PASSWORD" "$own" "$own" "$own"
# Applications publish commands, and that is all.
user "${namespace}-client" "$CLIENT_PASSWORD" "$nothing" "^${namespace}[.]commands\$" "$nothing"
# Other programs publish foreign messages to the exchange of the ingress queue, and that is all.
user "${namespace}-foreign" "$FOREIGN_PASSWORD" "$nothing" "^${namespace}[.]ingress\$" "$nothing"
