#!/usr/bin/env bash
# Runs the daemon and a fleet of simulated routers side by side until Ctrl-C: `make run`.
# usage: packaging/run.sh DIRECTORY_OF_THE_BINARIES [CONFIG [ROUTERS]]
set -euo pipefail
# Own process groups, so that Ctrl-C reaches only this script: a second signal would cut the daemon's drain short.
set -m

bin=$1
config=${2:-config.toml}
routers=${3:-200}
here=$(cd "$(dirname "$0")/.." && pwd)
daemon=
fleet=
status=0

stop() {
    trap '' INT TERM
    for pid in $fleet $daemon; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch"
}

scratch=$(mktemp -d)
trap stop EXIT
trap 'exit 0' INT TERM

mkfifo "$scratch/stdout"
"$bin/berthd" --config "$config" >"$scratch/stdout" &
daemon=$!
# The ready line is all that the daemon ever says on stdout; without one it has said why on stderr.
read -r ready <"$scratch/stdout" || ready=
if [[ $ready != ready\ * ]]; then
    wait "$daemon" || status=$?
    daemon=
    echo "berthd did not start (exit code $status, the reason is above)." >&2
    echo "If a port is taken, stop who has it, or change bind in a copy of config.toml: make run CONFIG=my.toml" >&2
    exit 1
fi
for pair in ${ready#ready }; do
    case $pair in
        router=*) router=${pair#*=} ;;
        http=*) http=${pair#*=} ;;
        app=*) app=${pair#*=} ;;
        page=*) page=${pair#*=} ;;
    esac
done
# The first of several addresses is as good as any.
router=${router%%,*} http=${http%%,*} app=${app%%,*} page=${page%%,*}

"$bin/loadgen" fleet --router "$router" --routers "$routers" &
fleet=$!

cat <<TEXT

Berth runs with $routers simulated routers, router-0001 and on.
  routers  $router         HTTP   http://$http
  apps     ws://$app/ws    pages  ws://$page/ws

Try, in another terminal:
  # a command to one router, and its answer
  curl -s -X POST http://$http/v1/routers/router-0001/commands/echo -d '{"hello":"berth"}' -H 'Content-Type: application/json'
  # the same without waiting for an answer
  curl -si -X POST 'http://$http/v1/routers/router-0001/commands/echo?oneway=1' -d '{"hello":"berth"}' -H 'Content-Type: application/json'
  # the same to the whole fleet: a line for each router, as it answers
  curl -s http://$http/v1/commands/echo -d '{"routers":"*","body":{"hello":"fleet"}}'
  # a big result, row by row
  curl -s 'http://$http/v1/routers/router-0001/streams/log?rows=5'
  # the events of all routers, live
  curl -sN http://$http/v1/events
  # who is there, and what the daemon holds
  curl -s 'http://$http/v1/routers?limit=3'
  curl -s http://$http/v1/census
  # the events of all routers, live, over WebSocket
  python3 $here/docs/examples/watch.py $app

Ctrl-C stops both.

TEXT

wait -n "$daemon" "$fleet" || status=$?
echo "one of the two has ended by itself (exit code $status)" >&2
exit 1
